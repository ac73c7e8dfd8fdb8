"""The linear head of a ColBERT checkpoint: it is in the weights, beside the encoder, and converters leave it out."""

from __future__ import annotations

import json
from pathlib import Path

from gpux.inspect.headers.safetensors import parse_header
from gpux.model.json_file import read_json
from gpux.model.late_interaction import ARCHITECTURE, HEAD

_WEIGHTS, _TENSOR = "model.safetensors", "linear.weight"


def place_head(source: Path, target: Path) -> None:
    """Write the head of a checkpoint of stanford-futuredata/ColBERT into a variant; other models have none.

    Args:
        source: folder of the repository.
        target: folder of the variant.

    Raises:
        CorruptFileError: the weights are damaged.
    """
    file = source / _WEIGHTS
    if ARCHITECTURE not in (read_json(source / "config.json").get("architectures") or ()) or not file.is_file():
        return
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = parse_header(_WEIGHTS, stream.read(length), file.stat().st_size - 8 - length)
        tensor = next((one for one in header.tensors if one.name == _TENSOR), None)
        if tensor is None:
            return
        stream.seek(8 + length + tensor.start)
        data = stream.read(tensor.stop - tensor.start)
    entry = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [0, len(data)]}
    text = json.dumps({_TENSOR: entry}).encode()
    text += b" " * (-len(text) % 8)  # the format's own alignment
    (target / HEAD).write_bytes(len(text).to_bytes(8, "little") + text + data)
