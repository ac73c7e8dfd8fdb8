"""Random inputs of image and audio encoders."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.model.variant import TensorSpec

#: Sizes of free axes: audio samples, spectrogram frames.
_FREE = {"input_values": 8000, "input_features": 96}
_COLUMNS = 6  # of patches in an image


def arrays_of(specs: Iterable[TensorSpec], rows: int, seed: int) -> dict[str, NDArray[Any]]:
    """One array for each input of an encoder, ``[rows, …]``; masks are all ones."""
    rng = np.random.default_rng(seed)
    named = {spec.name: spec for spec in specs}
    found: dict[str, NDArray[Any]] = {}
    for name, spec in named.items():
        if not name.endswith("mask"):
            free = _FREE.get(name, 1)
            shape = [rows, *(size if isinstance(size, int) else free for size in spec.shape[1:])]
            found[name] = rng.normal(size=shape).astype(np.float32)
    if (patches := found.get("flattened_patches")) is not None:  # the first two values are the row and column, from 1
        places = np.arange(patches.shape[1])
        patches[:, :, 0], patches[:, :, 1] = 1 + places // _COLUMNS, 1 + places % _COLUMNS
    width = next(iter(found.values())).shape[1]
    return found | {name: np.ones((rows, width), np.int64) for name in named if name.endswith("mask")}
