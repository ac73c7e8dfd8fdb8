"""Deterministic random weights under the parameter names of transformers' BERT classes (4.57).

Unit gain, non-zero biases and non-unit norms, unlike the library's own initialisation: with std 0.02 and zero
biases every model is nearly an identity on its embeddings, and a wrong mask, position or bias would have no effect.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Shapes = Iterator[tuple[str, tuple[int, ...]]]


def bert_weights(config: Mapping[str, Any], task: str, seed: int = 0) -> dict[str, Array]:
    """Every parameter of the class that `task` loads; the same numbers on every machine and numpy version."""
    return {name: draw(name, shape, seed) for name, shape in _shapes(config, task)}


def draw(name: str, shape: tuple[int, ...], seed: int) -> Array:
    """Uniform numbers of unit variance, scaled by the kind of the parameter `name`.

    They come from PCG64's raw bits: numpy guarantees that stream in all versions, but not that of its distributions.
    """
    bits = np.random.PCG64([seed, zlib.crc32(name.encode())]).random_raw(math.prod(shape)) >> np.uint64(40)
    unit = ((bits.astype(np.float64) / 2**23 - 1.0) * math.sqrt(3.0)).reshape(shape)
    if len(shape) > 1:
        return (unit / math.sqrt(shape[-1])).astype(np.float32)
    if name.endswith("bias"):
        return (0.1 * unit).astype(np.float32)
    return (1.0 + 0.1 * unit).astype(np.float32)


def digest(weights: Mapping[str, Array]) -> str:
    """sha256 over names and bytes, to distinguish changed weights from a wrong computation."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        sha.update(name.encode())
        sha.update(weights[name].astype("<f4").tobytes())
    return sha.hexdigest()


def _linear(name: str, inputs: int, outputs: int) -> Shapes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, size: int) -> Shapes:
    yield f"{name}.weight", (size,)
    yield f"{name}.bias", (size,)


def _shapes(config: Mapping[str, Any], task: str) -> Shapes:
    hidden = config["hidden_size"]
    prefix = "" if task == "feature-extraction" else "bert."
    yield from _embeddings(config, prefix)
    for layer in range(config["num_hidden_layers"]):
        yield from _layer(config, f"{prefix}encoder.layer.{layer}")
    if task in ("feature-extraction", "text-classification"):  # the other classes have no pooler
        yield from _linear(f"{prefix}pooler.dense", hidden, hidden)
    if task in ("text-classification", "token-classification"):
        yield from _linear("classifier", hidden, len(config["id2label"]))
    if task == "question-answering":
        yield from _linear("qa_outputs", hidden, 2)
    if task == "fill-mask":  # the decoder's weight is tied to the word embeddings and is not saved
        yield from _linear("cls.predictions.transform.dense", hidden, hidden)
        yield from _norm("cls.predictions.transform.LayerNorm", hidden)
        yield "cls.predictions.bias", (config["vocab_size"],)


def _embeddings(config: Mapping[str, Any], prefix: str) -> Shapes:
    hidden = config["hidden_size"]
    yield f"{prefix}embeddings.word_embeddings.weight", (config["vocab_size"], hidden)
    yield f"{prefix}embeddings.position_embeddings.weight", (config["max_position_embeddings"], hidden)
    yield f"{prefix}embeddings.token_type_embeddings.weight", (config["type_vocab_size"], hidden)
    yield from _norm(f"{prefix}embeddings.LayerNorm", hidden)


def _layer(config: Mapping[str, Any], name: str) -> Shapes:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    for part in ("query", "key", "value"):
        yield from _linear(f"{name}.attention.self.{part}", hidden, hidden)
    yield from _linear(f"{name}.attention.output.dense", hidden, hidden)
    yield from _norm(f"{name}.attention.output.LayerNorm", hidden)
    yield from _linear(f"{name}.intermediate.dense", hidden, inner)
    yield from _linear(f"{name}.output.dense", inner, hidden)
    yield from _norm(f"{name}.output.LayerNorm", hidden)
