"""Watches a file for changes, also by editors that replace it, and through links."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
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

#: What changes with the content of a file; None: it is missing.
Signature = tuple[int, int, int, int] | None


@dataclass(frozen=True)
class Watched:
    """A file, and who reads it."""

    path: Path
    read: Callable[[], Signature]  #: of the content that was read last
    changed: Callable[[], Awaitable[None]]  #: reads it again


def require() -> None:
    """Import the library that watches, so that it is known before anything runs.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    import watchfiles  # noqa: F401 - optional: the extra `chat`


async def watch(watched: Watched) -> None:
    """Have a file read again after each change, until this is cancelled."""
    while True:
        path = watched.path
        folders = [folder for folder in dict.fromkeys((path.parent, path.resolve().parent)) if folder.is_dir()]
        try:
            await _follow(watched, folders)
        except (OSError, RuntimeError) as error:  # a folder has vanished, or the system has no watches left
            log.debug("cannot watch %s: %s", folders, error)
            await asyncio.sleep(POLL_MS / 1000)


async def _follow(watched: Watched, folders: list[Path]) -> None:
    """Look at the file after each event, until other folders are to be watched."""
    from watchfiles import awatch  # optional: the extra `chat`

    await _look(watched)
    if not folders:
        await asyncio.sleep(POLL_MS / 1000)
        return
    events = awatch(
        *folders,
        watch_filter=None,
        debounce=LONGEST_MS,
        step=QUIET_MS,
        rust_timeout=POLL_MS,
        yield_on_timeout=True,
        recursive=False,
    )
    async with aclosing(events):
        async for _ in events:
            await _look(watched)
            if not all(folder.is_dir() for folder in folders) or watched.path.resolve().parent not in folders:
                return


async def _look(watched: Watched) -> None:
    found = signature(watched.path)
    if found == watched.read():
        return
    if found is None or not found[2]:  # an editor may be about to write it
        await asyncio.sleep(WRITING)
        found = signature(watched.path)
    if found != watched.read():
        await watched.changed()


def signature(path: Path) -> Signature:
    """What changes with the content of a file; None: it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_dev
