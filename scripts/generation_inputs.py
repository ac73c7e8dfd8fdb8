"""Inputs of encoders that read no text: pictures and sounds, four rows of noise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.model.variant import TensorSpec

#: Sizes of axes that a graph leaves free: samples of a sound, frames of its spectrum.
_FREE = {"input_values": 8000, "input_features": 96}
_COLUMNS = 6  # of patches in a picture


def arrays_of(specs: Iterable[TensorSpec], rows: int, seed: int) -> dict[str, NDArray[Any]]:
    """One array for each input of an encoder, ``[rows, …]``; masks leave nothing out."""
    rng = np.random.default_rng(seed)
    named = {spec.name: spec for spec in specs}
    found: dict[str, NDArray[Any]] = {}
    for name, spec in named.items():
        if not name.endswith("mask"):
            free = _FREE.get(name, 1)
            shape = [rows, *(size if isinstance(size, int) else free for size in spec.shape[1:])]
            found[name] = rng.normal(size=shape).astype(np.float32)
    if (patches := found.get("flattened_patches")) is not None:  # each begins with its row and its column, from 1 on
        places = np.arange(patches.shape[1])
        patches[:, :, 0], patches[:, :, 1] = 1 + places // _COLUMNS, 1 + places % _COLUMNS
    width = next(iter(found.values())).shape[1]
    return found | {name: np.ones((rows, width), np.int64) for name in named if name.endswith("mask")}
