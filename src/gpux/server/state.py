"""The loaded models of a server in a small file, so that they are loaded again after a restart, also after a crash."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gpux.errors import StorageError
from gpux.system import locks
from gpux.system.files import write_atomic

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """A model that was loaded."""

    path: str  #: folder of the variant
    name: str
    keep_alive: float | None = None  #: seconds; None: without end
    pinned: bool = False


class _Document(msgspec.Struct):
    models: list[Kept] = []
    schema: int = 1


class StateFile:
    """``GPUX_HOME/server/PORT.json``: one for each server; a second one at the same port neither reads nor writes it.

    Args:
        folder: ``GPUX_HOME``.
        port: of the server; 0, which is another port each time, keeps nothing.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self._path = folder / "server" / f"{port}.json"
        self._stack = ExitStack()
        self._owned = False
        if port != 0:
            try:
                self._owned = self._stack.enter_context(locks.try_hold(self._path.with_suffix(".lock")))
            except StorageError as error:
                log.warning("the loaded models are not recorded: %s", error)

    def read(self) -> list[Kept]:
        """The models of the last write; none where the file is missing or damaged."""
        if not self._owned:
            return []
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Document).models
        except FileNotFoundError:
            return []
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("the record of loaded models cannot be read: %s", error)
            return []

    def write(self, models: list[Kept]) -> None:
        """Replace the record; a disk that refuses is logged."""
        if not self._owned:
            return
        try:
            write_atomic(self._path, msgspec.json.encode(_Document(models)))
        except OSError as error:
            log.warning("the record of loaded models cannot be written: %s", error)

    def close(self) -> None:
        """Let another server at the port use the file."""
        self._owned = False
        self._stack.close()
