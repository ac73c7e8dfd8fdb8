"""What a feature extractor returns, and what all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class PreparedSound:
    """One sound as the graph reads it."""

    #: by name of a graph input, without the batch axis: ``input_values`` float32 [samples], ``input_features`` float32
    #: [frames, features] or [features, frames], ``attention_mask`` int64 …
    inputs: Mapping[str, NDArray[Any]]
    samples: int  #: of the sound, before the extractor cut or padded it


class Extractor:
    """The settings of an extractor.

    Args:
        class_name: transformers' name of the class.
        settings: of the repository's file over the defaults of the class.

    Raises:
        ValueError: a setting has a value that the class does not know.
        TypeError: a setting is of another type.
    """

    def __init__(self, class_name: str, settings: Mapping[str, Any]) -> None:
        self.class_name = class_name
        self.settings = settings
        self.sampling_rate = int(settings["sampling_rate"])  #: Hz
        if self.sampling_rate < 1:
            raise ValueError(f"sampling_rate is {self.sampling_rate}")

    def masked(self, wanted: bool | None, length: int) -> dict[str, NDArray[Any]]:
        """``attention_mask`` of ones, int64 [length], if it is wanted, or by default if the settings say so."""
        if wanted or (wanted is None and self.settings["return_attention_mask"]):
            return {"attention_mask": np.ones(length, dtype=np.int64)}
        return {}


def standardized(values: NDArray[Any], axis: int | None = None) -> NDArray[Any]:
    """Values with mean 0 and variance 1; 1e-7 is added to the variance."""
    mean, variance = values.mean(axis=axis), values.var(axis=axis)
    found: NDArray[Any] = (values - mean) / np.sqrt(variance + 1e-7)
    return found


def padded(values: NDArray[Any], length: int, value: float = 0.0, side: str = "right") -> NDArray[Any]:
    """Values with others before (``left``) or after them (``right``), up to a length of the first axis."""
    missing = length - len(values)
    if missing <= 0:
        return values
    widths = [(0, missing) if side == "right" else (missing, 0), *[(0, 0)] * (values.ndim - 1)]
    return np.pad(values, widths, constant_values=value)
