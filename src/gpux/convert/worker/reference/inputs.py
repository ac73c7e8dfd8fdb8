"""Inputs for the original and its graphs: seeded, of any shape, with values that each input permits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.convert.worker.common.graphs import Tensor
from gpux.convert.worker.reference.lengths import text_parts

Arrays = dict[str, NDArray[Any]]
Mask = NDArray[np.int64]
#: Parts of a composed configuration that process text.
TEXT_PARTS = ("text_config", "text_encoder", "encoder", "decoder", "vlm_config", "thinker_config", "llm_config")
#: Inputs that are derived from the attention mask.
TEXT_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids", "global_attention_mask"})


def text_config(config: Any) -> Any:
    """The configuration of the part that processes text; the model's own if it has a vocabulary."""
    if isinstance(getattr(config, "vocab_size", None), int):
        return config
    parts = [getattr(config, name, None) for name in TEXT_PARTS]
    nested = [text_config(part) for part in parts if part is not None and not isinstance(part, dict)]
    return next((part for part in nested if hasattr(part, "vocab_size")), config)


class Vocabulary:
    """Token ids in the places where a tokenizer puts them.

    Args:
        config: of the whole model, whose special tokens are never drawn.
        rng: source of the random numbers.
        part: the configuration with the vocabulary; default: the part of ``config`` that processes text.
    """

    def __init__(self, config: Any, rng: np.random.Generator, part: Any = None) -> None:
        self.config = part or text_config(config)
        self._rng = rng
        self.size = int(getattr(self.config, "vocab_size", 0) or 0)
        self.pad, self.end = self._special("pad_token_id"), self._special("eos_token_id")
        special = {token for one in (*text_parts(config), self.config) for token in _special_tokens(one)}
        self._ordinary = np.setdiff1d(np.arange(self.size), sorted(special))

    def _special(self, name: str) -> int | None:
        found = getattr(self.config, name, None)
        return found if isinstance(found, int) and 0 <= found < self.size else None

    def ordinary(self, *shape: int) -> NDArray[np.int64]:
        """Random tokens that are not special tokens."""
        return self._rng.choice(self._ordinary, shape).astype(np.int64)

    def tokens(self, mask: Mask) -> NDArray[np.int64]:
        """Tokens where the mask is 1, the end token last, then padding.

        roberta derives positions from padding tokens, and bart's classifier uses the end token.
        """
        tokens = self.ordinary(*mask.shape)
        if self.end is not None and self.end != self.pad:
            last = mask.sum(axis=-1, keepdims=True) - 1
            np.put_along_axis(tokens, last, self.end, axis=-1)
        return np.where(mask == 1, tokens, self.pad or 0)

    def token_types(self, mask: Mask) -> NDArray[np.int64]:
        """Types 0 and 1 if the model has two."""
        kinds = max(1, min(2, int(getattr(self.config, "type_vocab_size", None) or 1)))
        return self._rng.integers(0, kinds, mask.shape, np.int64) * mask

    def text(self, mask: Mask) -> Arrays:
        """All inputs of a text."""
        return {
            "input_ids": self.tokens(mask),
            "attention_mask": mask,
            "token_type_ids": self.token_types(mask),
            "position_ids": running_positions(mask),
            # As in a classifier: global attention for the first token.
            "global_attention_mask": np.zeros_like(mask) + (np.arange(mask.shape[-1]) == 0),
        }


def running_positions(mask: Mask) -> NDArray[np.int64]:
    """Positions without padding, as at run time."""
    positions: NDArray[np.int64] = np.maximum(mask.cumsum(axis=-1) - 1, 0).astype(np.int64)
    return positions


def ragged_mask(shape: tuple[int, ...], *, padded: bool) -> Mask:
    """All ones, or with ``padded`` every row after the first ends in padding."""
    mask = np.ones(shape, np.int64)
    if padded:
        for number, row in enumerate(mask.reshape(-1, shape[-1])[1:], start=2):
            row[max(1, shape[-1] // number) :] = 0
    return mask


def _special_tokens(config: Any) -> Iterator[int]:
    for name, value in vars(config).items():
        if name.endswith(("_token_id", "_token_index", "_token_ids")):
            yield from (token for token in (value if isinstance(value, list) else [value]) if isinstance(token, int))


def other_input(
    tensor: Tensor, shape: tuple[int, ...], config: Any, rng: np.random.Generator, example: NDArray[Any] | None
) -> NDArray[Any]:
    """Values for an input other than text; ``example`` is the traced input, in any shape."""
    if tensor.name == "bbox":
        return _boxes(shape, int(getattr(config, "max_2d_position_embeddings", 1024) or 1024), rng)
    if tensor.name == "input_points":
        return rng.uniform(0, _image_size(config), shape).astype(tensor.dtype)
    if tensor.name == "input_labels":
        return rng.integers(0, 2, shape).astype(tensor.dtype)
    if tensor.name == "flattened_patches":
        return _patches(shape, rng)
    if tensor.name in ("pixel_mask", "visual_attention_mask", "decoder_attention_mask") or example is None:
        filled = np.ones(shape) if tensor.dtype.kind in "biu" else rng.standard_normal(shape)
        return filled.astype(tensor.dtype)
    if tensor.dtype.kind == "f":
        return rng.standard_normal(shape).astype(tensor.dtype)
    return _like(example, shape, rng).astype(tensor.dtype)


def _image_size(config: Any) -> int:
    size = getattr(getattr(config, "vision_config", config), "image_size", 64)
    return int(size if isinstance(size, int) else min(size))


def _boxes(shape: tuple[int, ...], largest: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Boxes ``[x0, y0, x1, y1]`` with ``x0 <= x1`` and ``y0 <= y1``, below the table's size and layoutlm's 1000."""
    corners = rng.integers(0, min(largest, 1000), shape)
    low, high = corners[..., :2], corners[..., 2:]
    return np.concatenate([np.minimum(low, high), np.maximum(low, high)], axis=-1)


def _patches(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """pix2struct's patches: row and column, from 1, then the pixels."""
    patches = rng.standard_normal(shape).astype(np.float32)
    across = max(1, int(shape[1] ** 0.5))
    patches[..., 0] = np.arange(shape[1]) // across + 1
    patches[..., 1] = np.arange(shape[1]) % across + 1
    return patches


def _like(example: NDArray[Any], shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    """Values drawn from an example, in another shape; whole rows where a row has a meaning."""
    if example.ndim == len(shape) >= 3 and example.shape[-1] == shape[-1]:
        rows = example.reshape(-1, shape[-1])
        return rows[rng.integers(0, len(rows), int(np.prod(shape[:-1])))].reshape(shape)
    return rng.choice(example.ravel(), shape)


def examples(described: Any) -> Arrays:
    """Optimum's traced inputs, by the graph's names; empty without an OnnxConfig."""
    if described is None:
        return {}
    from optimum.utils import DEFAULT_DUMMY_SHAPES  # installed wherever a graph has an OnnxConfig

    made = described.generate_dummy_inputs(framework="pt", **DEFAULT_DUMMY_SHAPES)
    found: Mapping[str, Any] = described.rename_ambiguous_inputs(made)
    names = described.torch_to_onnx_input_map
    return {names.get(name, name): value.numpy() for name, value in found.items() if hasattr(value, "numpy")}
