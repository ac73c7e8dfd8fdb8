"""Headers of safetensors files: 8 bytes of little-endian length, then a JSON object of tensor
descriptions."""

from __future__ import annotations

import json
import re
from math import prod
from typing import Any

from tests.hub.contents import Blob, Commit

MAX_HEADER_SIZE = 100_000_000
"""The format's own limit on the JSON part."""

_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")


def read_header(blob: Blob) -> dict[str, Any] | None:
    """The header of a safetensors file, `__metadata__` included; None if it is not one."""
    with blob.file.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER_SIZE, blob.size):
            return None
        text = file.read(length)
    try:
        header = json.loads(text)
    except ValueError:
        return None
    return header if isinstance(header, dict) else None


def count_parameters(commit: Commit) -> dict[str, Any] | None:
    """Numbers of parameters by dtype, and their total, over the main weights; None without any."""
    parameters: dict[str, int] = {}
    for path, blob in commit.files.items():
        if not _WEIGHTS.fullmatch(path):
            continue
        for name, tensor in (read_header(blob) or {}).items():
            if name != "__metadata__" and isinstance(tensor, dict) and "shape" in tensor:
                dtype = str(tensor.get("dtype"))
                parameters[dtype] = parameters.get(dtype, 0) + prod(tensor["shape"])
    return {"parameters": parameters, "total": sum(parameters.values())} if parameters else None


def sharded_headers(commit: Commit, index_path: str) -> dict[str, Any] | None:
    """The index without its weight map, and the headers of all shards that it names; None if it is
    unreadable."""
    try:
        index = json.loads(commit.files[index_path].file.read_bytes())
        shards = sorted(set(index.pop("weight_map").values()))
        return {"index": index, "headers": {shard: read_header(commit.files[shard]) for shard in shards}}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
