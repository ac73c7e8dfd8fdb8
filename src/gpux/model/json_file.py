"""JSON files that others wrote: one place for encodings, byte order marks and errors."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from gpux.errors import CorruptFileError

log = logging.getLogger(__name__)


def parse_json(data: bytes) -> Any:
    """The value in UTF-8 JSON, with or without a byte order mark, which editors on Windows write.

    Raises:
        ValueError: the data is not JSON, not UTF-8, or nested too deeply.
    """
    try:
        return json.loads(data.decode("utf-8-sig"))
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


_VERIFY = "Run `gpux verify`."


def load_json(file: Path, *, hint: str = _VERIFY) -> Any:
    """The JSON value in a file.

    Raises:
        FileNotFoundError: no such file.
        CorruptFileError: the file is not JSON.
    """
    try:
        return parse_json(file.read_bytes())
    except ValueError as exc:
        raise CorruptFileError(f"{file} is not JSON: {exc}", hint=hint, path=file) from exc


def read_optional_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file without which a model runs too: ``{}``, with a warning, for a file that is not JSON."""
    try:
        return read_json(file)
    except CorruptFileError as exc:
        log.warning("ignored: %s", exc.message)
        return {}


def read_json(file: Path, *, hint: str = _VERIFY) -> dict[str, Any]:
    """The JSON object in a file; ``{}`` for a missing file, and for another kind of value.

    Raises:
        CorruptFileError: the file is not JSON.
    """
    try:
        found = load_json(file, hint=hint)
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}
