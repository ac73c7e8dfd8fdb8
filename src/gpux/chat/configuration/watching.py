"""Watches a file for changes, also by editors that replace it, and through links."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

log = logging.getLogger(__name__)
#: Milliseconds without another event until a change is read, so that a file that is written in parts is complete.
QUIET_MS = 100
#: Milliseconds that changes which do not end are waited for.
LONGEST_MS = 500
#: Milliseconds without an event until the file is looked at nevertheless: some file systems report no events.
POLL_MS = 1500
#: Seconds that a file may be missing or empty while an editor writes it.
WRITING = 0.5

Signature = tuple[int, int, int, int] | None
Changed = Callable[[], Awaitable[None]]


async def watch(path: Path, changed: Changed) -> None:
    """Call ``changed`` after each change of a file, until this is cancelled."""
    known = _signature(path)
    while True:
        folders = [folder for folder in dict.fromkeys((path.parent, path.resolve().parent)) if folder.is_dir()]
        known = await _follow(path, folders, known, changed)


async def _follow(path: Path, folders: list[Path], known: Signature, changed: Changed) -> Signature:
    """Look at the file after each event, until its folders are others or cannot be watched."""
    from watchfiles import awatch  # optional: the extra `chat`

    if not folders:
        await asyncio.sleep(POLL_MS / 1000)
        return await _look(path, known, changed)
    events = awatch(
        *folders,
        watch_filter=None,
        debounce=LONGEST_MS,
        step=QUIET_MS,
        rust_timeout=POLL_MS,
        yield_on_timeout=True,
        recursive=False,
    )
    try:
        async with aclosing(events):
            async for _ in events:
                known = await _look(path, known, changed)
                if not all(folder.is_dir() for folder in folders) or path.resolve().parent not in folders:
                    return known
    except (OSError, RuntimeError) as error:  # the folder has vanished, or the system has no watches left
        log.debug("cannot watch %s: %s", folders, error)
        await asyncio.sleep(POLL_MS / 1000)
        known = await _look(path, known, changed)
    return known


async def _look(path: Path, known: Signature, changed: Changed) -> Signature:
    found = _signature(path)
    if found == known:
        return known
    if found is None or not found[2]:  # an editor may be about to write it
        await asyncio.sleep(WRITING)
        found = _signature(path)
    if found != known:
        await changed()
    return found


def _signature(path: Path) -> Signature:
    """What changes with the content of a file; None: it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_dev
