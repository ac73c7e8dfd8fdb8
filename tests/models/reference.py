"""Outputs of a tiny repository's graph, with the postprocessing written in numpy.

Deliberately plain and slow, one text at a time: it checks the builders, and other tests may check against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from tests.models.sentence import SentenceOptions

Floats = npt.NDArray[np.float32]


class Graph:
    """One repository with onnx/model.onnx: text in, the graph's output out."""

    def __init__(self, repository: Path, file: str = "onnx/model.onnx") -> None:
        self.session = onnxruntime.InferenceSession(repository / file, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(repository / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def feed(self, text: str, pair: str | None = None, limit: int | None = None) -> dict[str, Any]:
        """The int64 inputs [1, tokens] of one text."""
        if limit is None:
            self.tokenizer.no_truncation()
        else:
            self.tokenizer.enable_truncation(limit)
        encoding = self.tokenizer.encode(text, pair)
        columns = (encoding.ids, encoding.attention_mask, encoding.type_ids)
        names = ("input_ids", "attention_mask", "token_type_ids")
        return {name: np.array([column], np.int64) for name, column in zip(names, columns, strict=True)}

    def run(self, feed: dict[str, Any]) -> Floats:
        output: Floats = self.session.run(None, feed)[0]
        return output

    def __call__(self, text: str, pair: str | None = None, limit: int | None = None) -> Floats:
        return self.run(self.feed(text, pair, limit))


def softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True), np.float32)


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def sentence_vector(tokens: Floats, options: SentenceOptions, repository: Path) -> Floats:
    """Pool the token vectors [tokens, hidden] of one unpadded text, then Dense and Normalize as declared."""
    modes = options.get("pooling", "mean")
    vector = np.concatenate([_pool(tokens, mode) for mode in ([modes] if isinstance(modes, str) else modes)])
    if "dense" in options:
        vector = _dense(vector, options, load_file(repository / "2_Dense" / "model.safetensors"))
    if options.get("normalize", False):
        vector = np.asarray(vector / np.linalg.norm(vector), np.float32)
    return vector


def _pool(tokens: Floats, mode: str) -> Floats:
    count = len(tokens)
    weights = np.arange(1, count + 1, dtype=np.float32)
    pooled = {
        "cls": tokens[0],
        "lasttoken": tokens[-1],
        "mean": tokens.mean(0),
        "max": tokens.max(0),
        "mean_sqrt_len": tokens.sum(0) / math.sqrt(count),
        "weightedmean": weights @ tokens / weights.sum(),
    }
    return np.asarray(pooled[mode], np.float32)


def _dense(vector: Floats, options: SentenceOptions, weights: dict[str, Floats]) -> Floats:
    value = weights["linear.weight"] @ vector
    if options.get("dense_bias", True):
        value = value + weights["linear.bias"]
    return np.asarray(_ACTIVATIONS[options.get("dense_activation", "tanh")](value), np.float32)


def _gelu(value: Floats) -> Floats:
    erf = np.array([math.erf(x / math.sqrt(2)) for x in value])
    return np.asarray(value * 0.5 * (1 + erf), np.float32)


_ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "tanh": np.tanh,
    "relu": lambda value: np.maximum(value, np.float32(0)),
    "gelu": _gelu,
    "sigmoid": sigmoid,
    "identity": lambda value: value,
}
