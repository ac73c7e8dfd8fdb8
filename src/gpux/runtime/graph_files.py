"""What an ONNX graph takes on disk."""

from __future__ import annotations

from pathlib import Path


def graph_bytes(path: Path) -> int:
    """Bytes of a graph's file and of the external data beside it, under the names that exporters give it."""
    names = {path.name, f"{path.stem}.data", f"{path.stem}.bin"}
    prefixes = (f"{path.name}_data", f"{path.name}.data")
    try:
        files = [file for file in path.parent.iterdir() if file.name in names or file.name.startswith(prefixes)]
        return sum(file.stat().st_size for file in files)
    except OSError:
        return 0
