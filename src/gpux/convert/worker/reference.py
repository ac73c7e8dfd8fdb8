"""Inputs of other shapes than the traced ones, and what the original answers to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from loading import answer
from numpy.typing import NDArray
from positions import position_limit
from transformers import PreTrainedModel
from versions import versions

LONGEST = 512  # tokens; beyond, the reference costs more than it shows
LARGEST = 128_000_000  # bytes of one case's outputs
SMALL = 2_000_000  # bytes of the outputs of the smallest case, which is kept for replay

Arrays = dict[str, NDArray[Any]]


def write_reference(model: PreTrainedModel, graph: Path, folder: Path, seed: int) -> None:
    """Write one ``NAME.npz`` per case, named as the graph names its inputs and outputs, and ``versions.json``."""
    original = Original(model, graph, seed)
    for name, (batch, length, padded) in shapes(position_limit(model) or LONGEST, original.bytes_per_token()).items():
        inputs = original.inputs((batch, length), padded=padded)
        arrays = {f"in:{key}": value for key, value in inputs.items()}
        arrays |= {f"out:{key}": value for key, value in original.answer(inputs).items()}
        np.savez(folder / f"{name}.npz", **arrays)
    (folder / "versions.json").write_text(json.dumps(versions()), encoding="utf-8")


def shapes(limit: int, bytes_per_token: int) -> dict[str, tuple[int, int, bool]]:
    """Case -> batch, length, padded; none beyond the model's positions, none that fills the disk with logits."""
    longest = min(limit, LONGEST, max(2, LARGEST // bytes_per_token))
    short = min(5, max(2, SMALL // bytes_per_token))
    return {
        "batch": (3, min(17, longest), False),
        "short": (1, min(short, longest), False),
        "padded": (2, min(61, longest), True),
        "longest": (1, longest, False),
    }


class Original:
    """The unpatched model, asked by the names of the graph's inputs and outputs."""

    def __init__(self, model: PreTrainedModel, graph: Path, seed: int) -> None:
        found = onnx.load(graph, load_external_data=False).graph
        self._model = model
        self._rng = np.random.default_rng(seed)
        # An input that nothing reads is not in the graph.
        self._inputs = [value.name for value in found.input]
        self._outputs = [value.name for value in found.output]

    def answer(self, inputs: Arrays) -> Arrays:
        """The model's outputs that the graph has too."""
        found = answer(self._model, {name: torch.from_numpy(value) for name, value in inputs.items()})
        return {name: found[name].numpy() for name in self._outputs}

    def bytes_per_token(self) -> int:
        """How much one token adds to the outputs, at most: with a row of the vocabulary each, that is a lot."""
        return max(1, sum(value.nbytes for value in self.answer(self.inputs((1, 2), padded=False)).values()) // 2)

    def inputs(self, shape: tuple[int, int], *, padded: bool) -> Arrays:
        """Random tokens; in a padded batch, rows after the first end in padding."""
        mask = np.ones(shape, np.int64)
        if padded:
            for row in range(1, shape[0]):
                mask[row, shape[1] // (row + 1) :] = 0
        made = {
            "input_ids": self._tokens(mask),
            "attention_mask": mask,
            "token_type_ids": self._rng.integers(0, self._token_types(), shape, np.int64) * mask,
        }
        return {name: made[name] for name in self._inputs}

    def _tokens(self, mask: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tokens of the vocabulary as a tokenizer places them: the end token last and only there, then padding.

        roberta counts positions by padding tokens, bart's classifier looks for the one end token.
        """
        pad, end = self._special("pad_token_id"), self._special("eos_token_id")
        special = {token for token in (pad, end) if token is not None}
        ordinary = np.setdiff1d(np.arange(self._model.config.vocab_size), list(special))
        tokens = self._rng.choice(ordinary, mask.shape).astype(np.int64)
        if end is not None and end != pad:
            tokens[np.arange(len(mask)), mask.sum(axis=1) - 1] = end
        return np.where(mask == 1, tokens, pad or 0)

    def _special(self, name: str) -> int | None:
        found = getattr(self._model.config, name, None)
        return found if isinstance(found, int) and 0 <= found < self._model.config.vocab_size else None

    def _token_types(self) -> int:
        """How many token types there are to draw from, at most 2."""
        return max(1, min(2, int(getattr(self._model.config, "type_vocab_size", None) or 1)))
