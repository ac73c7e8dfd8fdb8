"""Names of labels, and the function from logits to scores that a classifier's configuration implies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UnsupportedError, UsageError
from gpux.model.variant import TensorSpec
from gpux.runtime.numeric import sigmoid, softmax

Floats = NDArray[np.float32]
Function = Callable[[Floats], Floats]

FUNCTIONS: Mapping[str, Function] = {
    "sigmoid": sigmoid,
    "softmax": softmax,
    "none": lambda logits: logits,
}


def read_labels(config: Mapping[str, Any]) -> list[str]:
    """Labels in the order of the scores; ``LABEL_0`` … where the configuration has none, as in transformers."""
    named = config.get("id2label")
    if named:
        by_index = {int(index): str(label) for index, label in named.items()}
        return [by_index.get(index, f"LABEL_{index}") for index in range(max(by_index) + 1)]
    return [f"LABEL_{index}" for index in range(int(config.get("num_labels") or 2))]


def find_function(name: str | None, default: str) -> Function:
    """The function of a call's ``function_to_apply``.

    Raises:
        UsageError: there is no such function.
    """
    key = default if name is None else str(name).lower()
    if key not in FUNCTIONS:
        raise UsageError(f"function_to_apply is {name!r}", hint=f"It may be {', '.join(FUNCTIONS)}.")
    return FUNCTIONS[key]


def check_width(model: str, output: TensorSpec, labels: int) -> None:
    """Refuse a graph with another number of scores than the configuration has labels.

    Raises:
        UnsupportedError: the numbers differ.
    """
    width = output.shape[1]
    if isinstance(width, int) and width != labels:
        raise UnsupportedError(
            f"the graph of {model} gives {width} scores, and its config.json has {labels} labels", model=model
        )
