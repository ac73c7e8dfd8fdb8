"""What runs and pulls tell the catalogue, without waiting for it and without ever failing.

::

    catalogue.db
    catalogue.events/2026-01-31    one JSON object on each line, in the order of their coming

An event is one appended line, for which no lock and no database is opened; whoever opens the catalogue next takes the
lines in, each once (:mod:`gpux.catalogue.folding`). Where there is no catalogue, nothing is written.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from gpux.errors import CancelledError, GpuxError
from gpux.reference import ModelRef
from gpux.settings import Settings

FILE = "catalogue.db"
_LONGEST = 500  #: characters of a reason


def default_path(settings: Settings) -> Path:
    """The catalogue of these settings."""
    return settings.home / FILE


def events_folder(catalogue: Path) -> Path:
    """Where events of a catalogue wait."""
    return catalogue.with_suffix(".events")


def record_use(id: str, *, scheme: str = "hf", commit: str | None = None, settings: Settings | None = None) -> None:
    """Count a use of a model that is opened to run; never fails, and does nothing for a model without a record.

    Args:
        id: canonical, or one that the record was asked for by.
        scheme: of the manager.
        commit: that runs; of several records of one id, those at this commit are meant.
        settings: by default the environment's.
    """
    _append({"event": "used", "scheme": scheme, "id": id, "commit": commit}, settings)


def record_status(
    id: str,
    status: Literal["pulled", "failed"],
    *,
    scheme: str = "hf",
    reason: str | None = None,
    settings: Settings | None = None,
) -> None:
    """Tell how a pull ended; never fails, and does nothing for a model without a record."""
    event = {"event": status, "scheme": scheme, "id": id, "reason": reason[:_LONGEST] if reason else None}
    _append(event, settings)


@contextmanager
def pull_recorded(ref: ModelRef, settings: Settings | None = None) -> Iterator[None]:
    """Tell how the pull in the block ends; one that was cancelled is none."""
    try:
        yield
    except CancelledError:
        raise
    except GpuxError as exc:
        record_status(_id(ref), "failed", scheme=ref.scheme, reason=exc.message, settings=settings)
        raise
    record_status(_id(ref), "pulled", scheme=ref.scheme, settings=settings)


def _id(ref: ModelRef) -> str:
    """As its manager calls it."""
    return str(Path(ref.id).expanduser().absolute()) if ref.scheme == "local" else ref.id


def _append(event: dict[str, Any], settings: Settings | None) -> None:
    with suppress(OSError, GpuxError, ValueError):  # the run goes on, whatever stands in the way of counting it
        path = default_path(settings or _environment())
        if not path.exists():
            return
        now = time.gmtime()
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", now), **event}) + "\n"
        file = events_folder(path) / time.strftime("%Y-%m-%d", now)
        try:
            _write(file, line)
        except FileNotFoundError:
            file.parent.mkdir(mode=0o700, exist_ok=True)
            _write(file, line)


def _write(file: Path, line: str) -> None:
    """One write at the end, which the system does as a whole; ids of private models are their owner's alone."""
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def _environment() -> Settings:
    """Without the token: finding it may open a file or the key store, and no request is made."""
    return Settings.from_env({**os.environ, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"})
