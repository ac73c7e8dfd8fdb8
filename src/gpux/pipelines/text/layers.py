"""Modules of sentence-transformers that follow the pooling: float32 [batch, dim] in, float32 [batch, dim'] out.

Formulas: ``sentence_transformers/base/modules/dense.py`` and ``sentence_transformer/modules/`` of 5.7, and the
torch functions behind them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from gpux.errors import CorruptFileError, UnsupportedError
from gpux.pipelines.text.safetensors import read_floats

Floats = NDArray[np.float32]


class Layer(Protocol):
    """A module that follows the pooling."""

    normalizes: ClassVar[bool]  #: its result has length 1
    width: int | None  #: size of its result; None leaves it as it is
    nbytes: int  #: of its weights

    def __call__(self, vectors: Floats) -> Floats:
        """Apply it to float32 [batch, dim]."""
        ...


class Normalize:
    """Rows at length 1, as ``torch.nn.functional.normalize``: a norm below 1e-12 counts as 1e-12."""

    normalizes: ClassVar[bool] = True
    width: int | None = None
    nbytes = 0

    def __init__(self, folder: Path | None = None) -> None:
        """It has no files."""

    def __call__(self, vectors: Floats) -> Floats:
        """Apply it to float32 [batch, dim]."""
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return _floats(vectors / np.maximum(norms, 1e-12))


class Dropout:
    """Does nothing after training."""

    normalizes: ClassVar[bool] = False
    width: int | None = None
    nbytes = 0

    def __init__(self, folder: Path) -> None:
        """What its configuration says matters in training only."""

    def __call__(self, vectors: Floats) -> Floats:
        """Give them back."""
        return vectors


class LayerNorm:
    """``torch.nn.LayerNorm`` over the last axis, with its default epsilon of 1e-5."""

    normalizes: ClassVar[bool] = False
    width: int | None = None

    def __init__(self, folder: Path) -> None:
        weights = _weights(folder)
        self._weight = _tensor(weights, "norm.weight", folder)
        self._bias = _tensor(weights, "norm.bias", folder)
        self.nbytes = self._weight.nbytes + self._bias.nbytes

    def __call__(self, vectors: Floats) -> Floats:
        """Apply it to float32 [batch, dim]."""
        centred = vectors - vectors.mean(axis=1, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(axis=1, keepdims=True) + np.float32(1e-5))
        return _floats(centred / deviation * self._weight + self._bias)


class Dense:
    """A linear layer and an activation."""

    normalizes: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        config = _config(folder)
        place = config.get("module_input_name", "sentence_embedding")
        if place != "sentence_embedding" or config.get("module_output_name") not in (None, place):
            raise UnsupportedError(f"the Dense layer {folder} works on {place}, not on sentence vectors")
        self._activation = _activation(config, folder)
        weights = _weights(folder)
        self._weight = _tensor(weights, "linear.weight", folder)
        self._bias = weights.get("linear.bias", np.zeros(len(self._weight), np.float32))
        self.width: int | None = len(self._weight)
        self.nbytes = self._weight.nbytes + self._bias.nbytes

    def __call__(self, vectors: Floats) -> Floats:
        """Apply it to float32 [batch, dim]."""
        return _floats(self._activation(vectors @ self._weight.T + self._bias))


#: class name in modules.json -> what reads its folder
LAYERS: dict[str, Callable[[Path], Layer]] = {
    "Dense": Dense,
    "Dropout": Dropout,
    "LayerNorm": LayerNorm,
    "Normalize": Normalize,
}


def _gelu(x: Floats) -> Floats:
    """``torch.nn.GELU()``: x/2 * (1 + erf(x / sqrt 2)); numpy has no erf, so it goes element by element."""
    erf = np.frompyfunc(math.erf, 1, 1)(x / math.sqrt(2)).astype(np.float32)
    return _floats(x * np.float32(0.5) * (1 + erf))


def _floats(values: NDArray[Any]) -> Floats:
    return values.astype(np.float32, copy=False)


_ACTIVATIONS: dict[str, Callable[[Floats], NDArray[Any]]] = {
    "Identity": lambda x: x,
    "Tanh": np.tanh,
    "ReLU": lambda x: np.maximum(x, 0),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "GELU": _gelu,
    "SiLU": lambda x: x / (1 + np.exp(-x)),
    "LeakyReLU": lambda x: np.where(x < 0, x * np.float32(0.01), x),
}


def _activation(config: dict[str, Any], folder: Path) -> Callable[[Floats], NDArray[Any]]:
    """By its torch class; Tanh where nothing is said, as sentence-transformers has it."""
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    short = name.rpartition(".")[2]
    if not name.startswith("torch.") or short not in _ACTIVATIONS:
        raise UnsupportedError(f"the Dense layer {folder} has the activation {name}, which gpux does not know")
    return _ACTIVATIONS[short]


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise CorruptFileError(f"{file} cannot be read: {exc}", hint="Run `gpux verify`.", path=file) from exc
    return found if isinstance(found, dict) else {}


def _weights(folder: Path) -> dict[str, Floats]:
    file = folder / "model.safetensors"
    if not file.is_file():
        raise UnsupportedError(
            f"{folder} has no model.safetensors",
            hint="gpux reads no pickled weights: ask for the model's safetensors on its page.",
            path=folder,
        )
    return read_floats(file)


def _tensor(weights: dict[str, Floats], name: str, folder: Path) -> Floats:
    if name not in weights:
        raise CorruptFileError(f"{folder / 'model.safetensors'} holds no {name}", hint="Run `gpux verify`.")
    return weights[name]
