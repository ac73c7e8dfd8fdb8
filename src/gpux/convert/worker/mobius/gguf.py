"""Which GGUF file of a folder holds the model, if it has no other weights."""

from __future__ import annotations

from pathlib import Path

from gpux.convert.worker.mobius.weights import PICKLES, SAFETENSORS
from gpux.system.worker_protocol import Refused


def ggufs(source: Path) -> list[Path]:
    """The one GGUF file of a folder without other weights, or none.

    Raises:
        Refused: there are several, and nothing says which.
    """
    if any((source / name).is_file() for name in (*SAFETENSORS, *PICKLES)):
        return []
    found = sorted(source.glob("*.gguf"))
    if len(found) > 1:
        raise Refused("conversion", f"which of {', '.join(file.name for file in found)} is meant cannot be told")
    return found
