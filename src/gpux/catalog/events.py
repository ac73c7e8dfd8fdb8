"""What runs and pulls tell the catalog, without waiting for it and without ever failing.

::

    catalogue.db
    catalogue.events/2026-01-31    one JSON object on each line, in the order of their coming

An event is one appended line, for which no lock and no database is opened; whoever opens the catalog next takes the
lines in, each once (:mod:`gpux.catalog.folding`). Where there is no catalog, nothing is written.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from gpux.errors import GpuxError
from gpux.system.events import Event, ModelOpened
from gpux.system.settings import Settings

FILE = "catalogue.db"
_LONGEST = 500  #: characters of a reason


def default_path(settings: Settings) -> Path:
    """The catalog of these settings."""
    return settings.home / FILE


def events_folder(catalog: Path) -> Path:
    """Where events of a catalog wait."""
    return catalog.with_suffix(".events")


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


def follow(event: Event, settings: Settings | None) -> None:
    """The catalog's subscriber: uses and pulls of models that have a record. Registered as ``gpux.subscribers``."""
    if isinstance(event, ModelOpened):
        record_use(event.id, scheme=event.scheme, commit=event.commit, settings=settings)
    else:
        status: Literal["pulled", "failed"] = "failed" if event.error else "pulled"
        record_status(event.id, status, scheme=event.scheme, reason=event.error, settings=settings)


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
