"""Softmax, its logarithm, and the logistic sigmoid in numpy, for every caller in gpux. The dtype is kept."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_Floats = TypeVar("_Floats", bound=np.floating[Any])


def sigmoid(x: NDArray[_Floats]) -> NDArray[_Floats]:
    """``1 / (1 + e^-x)``."""
    found: NDArray[_Floats] = 1 / (1 + np.exp(-x))
    return found


def softmax(scores: NDArray[_Floats]) -> NDArray[_Floats]:
    """``e^x / Σ e^x`` over the last axis; the largest x is subtracted first, so that nothing overflows."""
    found: NDArray[_Floats] = np.exp(scores - scores.max(axis=-1, keepdims=True))
    found /= found.sum(axis=-1, keepdims=True)
    return found


def log_softmax(scores: NDArray[_Floats]) -> NDArray[_Floats]:
    """``x - log Σ e^x`` over the last axis."""
    found: NDArray[_Floats] = scores - scores.max(axis=-1, keepdims=True)
    found -= np.log(np.exp(found).sum(axis=-1, keepdims=True))
    return found


def logsumexp(scores: NDArray[_Floats]) -> float:
    """``log Σ e^x`` of one row; a score minus this is the logarithm of its probability."""
    best = scores.max()
    return float(best + np.log(np.exp(scores - best).sum()))
