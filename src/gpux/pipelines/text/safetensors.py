"""A reader of small ``.safetensors`` files, for the Dense layers of sentence-transformers.

The format is eight bytes of header length, a JSON header, and the tensors' bytes
(https://github.com/huggingface/safetensors, "Format"). The library itself stays out of the base install: 40 lines
read what is needed here.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import CorruptFileError

_HEADER_LIMIT = 100_000_000  # as the library has it
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def read_floats(file: Path) -> dict[str, NDArray[np.float32]]:
    """Every float tensor of the file, by name, as float32 (bfloat16 included); others are left out.

    Raises:
        CorruptFileError: the file is not of this format, or shorter than its header says.
    """
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(_HEADER_LIMIT, len(data) - 8):
        raise _corrupt(file, "its header does not fit")
    try:
        header = json.loads(data[8 : 8 + size])
        found = {
            name: _tensor(entry, data[8 + size :])
            for name, entry in header.items()
            if name != "__metadata__" and entry["dtype"] in ("BF16", *_DTYPES)
        }
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise _corrupt(file, str(exc)) from exc
    return found


def _tensor(entry: dict[str, Any], data: bytes) -> NDArray[np.float32]:
    begin, end = entry["data_offsets"]
    raw, shape = data[begin:end], tuple(entry["shape"])
    if entry["dtype"] == "BF16":  # the upper half of a float32
        values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    else:
        values = np.frombuffer(raw, _DTYPES[entry["dtype"]])
    if values.size != math.prod(shape):
        raise ValueError(f"{values.size} values do not make a tensor of {shape}")
    return values.reshape(shape).astype(np.float32)


def _corrupt(file: Path, why: str) -> CorruptFileError:
    return CorruptFileError(f"{file} is not a safetensors file: {why}", hint="Run `gpux verify`.", path=file)
