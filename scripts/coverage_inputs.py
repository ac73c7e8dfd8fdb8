"""Fresh inputs for a stored graph, derived from its inputs' names and the model's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.coverage_graphs import Arrays, Graph, Original, Shape

#: Input -> names of its axes.
LAYOUTS: dict[str, tuple[str, ...]] = {
    "pixel_values": ("images", "channels", "height", "width"),
    "pixel_mask": ("images", "height", "width"),
    "input_features": ("rows", "frames", "bins"),
    "input_values": ("rows", "samples"),
    "flattened_patches": ("rows", "patches", "bins"),
    "bbox": ("rows", "tokens", "four"),
    "past_values": ("rows", "context", "channels"),
}
#: Inputs that go with images in models of images and text.
_FRAMES_SECOND = ("whisper",)  # bins come first there: (rows, bins, frames)


@dataclass(frozen=True)
class Sizes:
    """One set of sizes to try."""

    rows: int = 2
    tokens: int = 13
    images: int = 2
    height: int = 32
    width: int = 32
    samples: int = 4000
    frames: int = 96
    patches: int = 20
    padded: bool = False

    def __str__(self) -> str:
        return f"{self.rows}×{self.tokens} {self.images}×{self.height}×{self.width}" + (
            " padded" if self.padded else ""
        )


class Inputs:
    """Creates inputs of one graph from a seed."""

    def __init__(self, graph: Graph, original: Original, seed: int) -> None:
        self._graph = graph
        self._original = original
        self._rng = np.random.default_rng(seed)

    def make(self, sizes: Sizes) -> tuple[Arrays, NDArray[np.bool_]]:
        """The arrays, and which token positions are not padding."""
        bound: dict[str, int] = {}
        shapes = {name: self._shape(name, shape, sizes, bound) for name, (_, shape) in self._graph.inputs.items()}
        mask = self._mask(shapes, sizes)
        return {
            name: self._values(name, shapes[name], mask).astype(self._graph.inputs[name][0]) for name in shapes
        }, mask

    def tokens(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Ordinary tokens, none of the special ones."""
        special = {self._original.setting(name) for name in ("pad_token_id", "eos_token_id", "image_token_index")}
        vocabulary = int(self._original.setting("vocab_size", default=100))
        ordinary = np.array([token for token in range(4, vocabulary - 12) if token not in special] or [1])
        return self._rng.choice(ordinary, shape).astype(np.int64)

    def _shape(self, name: str, declared: Shape, sizes: Sizes, bound: dict[str, int]) -> tuple[int, ...]:
        layout = self._layout(name, len(declared))
        found = []
        for axis, size in enumerate(declared):
            if isinstance(size, int):
                found.append(size)
            elif isinstance(size, str) and size in bound:
                found.append(bound[size])
            else:
                value = self._size(layout[axis], sizes)
                found.append(value)
                if isinstance(size, str):
                    bound[size] = value
        return tuple(found)

    def _layout(self, name: str, rank: int) -> tuple[str, ...]:
        layout = LAYOUTS.get(name, ("rows", "tokens", "four"))
        if name == "input_features" and self._original.config.model_type in _FRAMES_SECOND:
            layout = ("rows", "bins", "frames")
        if self._graph.inputs.get("input_values") and name == "attention_mask":
            layout = ("rows", "samples")
        if self._graph.inputs.get("input_features") and name == "attention_mask":
            layout = ("rows", "frames")
        if self._graph.inputs.get("flattened_patches") and name == "attention_mask":
            layout = ("rows", "patches")
        if rank == 3 and name in ("input_ids", "attention_mask", "token_type_ids"):
            layout = ("rows", "choices", "tokens")
        return (*layout, *["four"] * (rank - len(layout)))

    def _size(self, what: str, sizes: Sizes) -> int:
        settings: Mapping[str, tuple[tuple[str, ...], int]] = {
            "channels": (("num_channels", "num_input_channels"), 3),
            "bins": (("num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim"), 16),
            "context": (("context_length",), 32),
        }
        if what in settings:
            names, default = settings[what]
            return int(self._original.setting(*names, default=default))
        if what in ("choices", "four"):
            return 3 if what == "choices" else 4
        return int(getattr(sizes, what))

    def _mask(self, shapes: Mapping[str, tuple[int, ...]], sizes: Sizes) -> NDArray[np.bool_]:
        shape = shapes.get("input_ids") or shapes.get("attention_mask") or (sizes.rows, sizes.tokens)
        mask = np.ones(shape, bool)
        if sizes.padded and len(shape) == 2 and "attention_mask" in shapes:
            for row in range(1, shape[0]):
                mask[row, max(2, shape[1] * 2 // (2 + row)) :] = False
        return mask

    def _values(self, name: str, shape: tuple[int, ...], mask: NDArray[np.bool_]) -> NDArray[Any]:
        if name in ("input_ids", "decoder_input_ids", "inputs"):
            return self._ended(self.tokens(shape), mask if mask.shape == shape else np.ones(shape, bool))
        if name == "bbox":
            low, high = self._rng.integers(0, 40, (*shape[:-1], 2)), self._rng.integers(41, 90, (*shape[:-1], 2))
            return np.concatenate([low, high], axis=-1)
        if name == "flattened_patches":
            return self._patches(shape)
        return self._plain(name, shape, mask)

    def _plain(self, name: str, shape: tuple[int, ...], mask: NDArray[np.bool_]) -> NDArray[Any]:
        dtype = self._graph.inputs[name][0]
        if name.endswith("mask"):
            return mask if mask.shape == shape else np.ones(shape, bool)
        if name == "position_ids":
            return np.broadcast_to(np.arange(shape[-1]), shape)
        if np.issubdtype(dtype, np.floating):
            return self._rng.standard_normal(shape)
        if name == "token_type_ids":
            kinds = max(1, min(2, int(self._original.setting("type_vocab_size", default=1) or 1)))
            return self._rng.integers(0, kinds, shape)
        return np.ones(shape, np.int64)

    def _ended(self, tokens: NDArray[np.int64], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        """With the end token where a row ends, and padding behind it."""
        pad, end = (self._original.setting(name) for name in ("pad_token_id", "eos_token_id"))
        if isinstance(end, int) and 0 <= end < int(self._original.setting("vocab_size", default=0)):
            last = mask.reshape(-1, mask.shape[-1]).sum(axis=1) - 1
            tokens.reshape(-1, mask.shape[-1])[np.arange(len(last)), last] = end
        return np.where(mask, tokens, pad if isinstance(pad, int) and pad >= 0 else 0)

    def _patches(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """pix2struct: the first two columns number rows and columns from 1."""
        found = self._rng.standard_normal(shape)
        found[..., 0] = np.arange(shape[1]) // 4 + 1
        found[..., 1] = np.arange(shape[1]) % 4 + 1
        return found
