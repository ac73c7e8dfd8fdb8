"""Which servers run on this machine: a file for each in ``settings.home/servers``, removed when the server ends.

A file whose process has ended (``kill -9``, a power cut) is recognized by the start time of the process.
"""

from __future__ import annotations

import contextlib
import json
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

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return urlsplit(self.url).port or 80


def record(url: str, settings: Settings) -> Path | None:
    """Record that this process serves at an address; returns the file, None where the folder is not writable."""
    process = this_process()
    folder = settings.home / "servers"
    file = folder / f"{process.pid}.json"
    document = ServerRecord(url, process, now(), __version__).to_dict()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps(document), private=True)
    except OSError:
        return None
    return file


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
