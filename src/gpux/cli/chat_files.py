"""Chats as files: a JSON list of messages, as other tools write and read it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gpux.errors import GpuxError, InputError, UsageError


def write_messages(path: Path, messages: list[dict[str, Any]]) -> None:
    """Write a chat; an older one in the file is replaced, anything else in it is left alone.

    Raises:
        UsageError: the file holds something that is no chat.
        OSError: it cannot be written.
    """
    if path.exists():
        try:
            read_messages(path)
        except GpuxError as exc:
            raise UsageError(f"{path} is there and holds no chat", hint="Choose another name.") from exc
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(json.dumps(messages, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_messages(path: Path) -> list[dict[str, Any]]:
    """The messages of a file, checked.

    Raises:
        InputError: the file is no JSON, or its value is no list of messages.
        OSError: it cannot be read.
    """
    from gpux.pipelines.chat.messages import checked

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:  # not JSON, or not UTF-8
        raise InputError(f"{path} is not JSON: {exc}", hint="Load what /save wrote.") from exc
    return checked(found)
