"""Which servers run on this machine: a file for each in ``settings.home/servers``, removed when the server ends.

A file whose process has ended (``kill -9``, a power cut) is recognized by the start time of the process.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gpux import __version__
from gpux.jobs.job import now
from gpux.jobs.process import ProcessMark, is_alive, is_elsewhere, this_process
from gpux.model.values import Value, from_builtins
from gpux.system.files import write_atomic
from gpux.system.settings import Settings


@dataclass(frozen=True)
class ServerRecord(Value):
    """A running server."""

    url: str  #: under which this machine reaches it
    process: ProcessMark
    started: str  #: UTC, ISO 8601
    version: str  #: of gpux
    models: tuple[str, ...] = ()  #: folders of the stored variants that it has loaded or is loading

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return urlsplit(self.url).port or 80


class RecordFile:
    """The file of this process. In a folder that is not writable, no file is written, which is not an error.

    Args:
        url: under which this machine reaches the server.
        settings: with the folder.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        self._process = this_process()
        self._url, self._started = url, now()
        self._file = settings.home / "servers" / f"{self._process.pid}.json"

    def write(self, models: Iterable[Path]) -> None:
        """Record the server with the folders of the variants that it has loaded or is loading."""
        folders = tuple(map(str, models))
        document = ServerRecord(self._url, self._process, self._started, __version__, folders).to_dict()
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._file, json.dumps(document), private=True)

    def remove(self) -> None:
        """The server has ended."""
        with contextlib.suppress(OSError):
            self._file.unlink()


def servers(settings: Settings) -> list[ServerRecord]:
    """The servers that run on this machine with this home folder, the oldest first; files of ended ones are removed."""
    found = []
    for file in sorted((settings.home / "servers").glob("*.json")):
        with contextlib.suppress(OSError, ValueError):
            entry = from_builtins(ServerRecord, json.loads(file.read_text(encoding="utf-8")))
            if is_alive(entry.process):
                found.append(entry)
            elif not is_elsewhere(entry.process):
                file.unlink()
    return sorted(found, key=lambda entry: entry.started)


def servers_with(folder: Path, settings: Settings) -> list[ServerRecord]:
    """The running servers that have loaded, or are loading, the stored variant in a folder."""
    real = os.path.realpath(folder)
    return [one for one in servers(settings) if any(os.path.realpath(model) == real for model in one.models)]
