"""The tensors of a checkpoint, mapped from its files, so that what is not read takes no memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from gpux.system.worker_protocol import Refused

if TYPE_CHECKING:
    import torch

#: Index or single file, in the order of preference.
SAFETENSORS = ("model.safetensors.index.json", "model.safetensors")
PICKLES = ("pytorch_model.bin.index.json", "pytorch_model.bin")


def read_weights(source: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the checkpoint in a folder, by name; safetensors first, else PyTorch's own files.

    Raises:
        Refused: there are none, or a file that an index names is missing.
    """
    for name in (*SAFETENSORS, *PICKLES):
        if (source / name).is_file():
            return {key: tensor for file in _parts(source / name) for key, tensor in _read(file).items()}
    raise Refused("no_weights", f"none of {', '.join((*SAFETENSORS, *PICKLES))} is there")


def _parts(file: Path) -> list[Path]:
    """The files that hold tensors: the file itself, or those that it indexes, which stand beside it."""
    if file.suffix != ".json":
        return [file]
    try:
        names = sorted(set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Refused("corrupt_file", f"{file.name} is no index of weights: {exc}") from exc
    missing = [name for name in names if Path(name).name != name or not (file.parent / name).is_file()]
    if missing:
        raise Refused("no_weights", f"{file.name} names {', '.join(missing[:3])}, which is not there")
    return [file.parent / name for name in names]


def _read(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    import torch

    # Only tensors are read, no code of the file is run. Files older than PyTorch 1.6 cannot be mapped.
    try:
        found: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:
        found = torch.load(file, map_location="cpu", weights_only=True)
    return found
