"""Locks between processes and threads, which the operating system releases when their process dies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gpux.errors import StorageError
from gpux.system.cancel import CancelToken
from gpux.system.disk import disk_errors

_POLL = 0.1  # seconds between two attempts of a waiting process


@contextmanager
def hold(path: Path, *, cancel: CancelToken | None = None, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file ``path``; ``on_wait`` is called once if another process or thread holds it.

    Raises:
        CancelledError: ``cancel`` was set while waiting.
        NotWritableError: the lock file cannot be created.
    """
    lock = _new(path)
    if not _acquired(lock, path):
        if on_wait is not None:
            on_wait()
        _wait(lock, path, cancel)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def try_hold(path: Path) -> Iterator[bool]:
    """Hold the lock file ``path`` unless another process or thread holds it; yields whether it is held.

    Raises:
        NotWritableError: the lock file cannot be created.
    """
    lock = _new(path)
    acquired = _acquired(lock, path)
    try:
        yield acquired
    finally:
        if acquired:
            lock.release()


def _new(path: Path) -> FileLock:
    # A new lock object for each caller, so that threads of one process exclude each other too.
    return FileLock(path, thread_local=False)


def _wait(lock: FileLock, path: Path, cancel: CancelToken | None) -> None:
    acquired = False
    while not acquired:
        if cancel is None:
            time.sleep(_POLL)
        else:
            cancel.wait(_POLL)
            cancel.check()
        acquired = _acquired(lock, path)


def _acquired(lock: FileLock, path: Path) -> bool:
    try:
        with disk_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
    except Timeout:
        return False
    except NotImplementedError as exc:
        hint = "Set GPUX_HOME to a folder on another disk."
        raise StorageError(f"the file system of {path.parent} has no file locks", hint=hint) from exc
    return True
