"""Exports records as JSON or YAML."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gpux import __version__
from gpux.catalog.database import SCHEMA
from gpux.catalog.describing import timestamp
from gpux.catalog.record import Record
from gpux.errors import NotWritableError
from gpux.system.disk import disk_errors
from gpux.system.files import write_atomic


def to_json(records: Iterable[Record]) -> str:
    """One JSON object: ``schema``, ``gpux``, ``exported`` and ``models``, a list of :meth:`Record.to_dict`."""
    return json.dumps(_document(records), indent=2, ensure_ascii=False) + "\n"


def to_yaml(records: Iterable[Record]) -> str:
    """The same document as YAML with plain values only, which every safe loader reads."""
    import yaml  # slow to import, and used only here

    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(_document(records), Dumper=dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


FORMATS: dict[str, Callable[[Iterable[Record]], str]] = {"json": to_json, "yaml": to_yaml}


def write_whole(path: Path, text: str) -> None:
    """Write a file atomically, replacing an existing one.

    Raises:
        NotWritableError: no permission to write, or the folder does not exist.
        DiskFullError: no space is left.
    """
    with disk_errors(path.parent, hint="Name another file with --output."):
        try:
            write_atomic(path, text)
        except FileNotFoundError as exc:
            raise NotWritableError(f"the folder {path.parent} does not exist", hint="Create the folder first.") from exc


def _document(records: Iterable[Record]) -> dict[str, Any]:
    """The document, copied through JSON so that YAML writes equal parts out instead of as anchors."""
    models = json.loads(json.dumps([record.to_dict() for record in records]))
    return {"schema": SCHEMA.version, "gpux": __version__, "exported": timestamp(), "models": models}
