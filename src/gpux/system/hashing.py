"""Hashes of files, computed in parallel threads: sha256, or git's blob sha1."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpux.system.cancel import CancelToken
from gpux.system.progress import INTERVAL, BytesAdvanced, ProgressCallback

#: Of the content, or git's sha1 of a header and the content (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects).
Algorithm = Literal["sha256", "git-blob-sha1"]

CHUNK = 1 << 20
#: hashlib releases the interpreter lock, so threads suffice; more than a few only make a disk seek.
WORKERS = min(8, os.cpu_count() or 1)


class Meter:
    """Counts the bytes of one stage, from any thread, and reports them one event at a time."""

    def __init__(self, stage: str, total: int, progress: ProgressCallback) -> None:
        self._stage = stage
        self._total = total
        self._progress = progress
        self._done = 0
        self._next = 0.0
        self._lock = threading.Lock()

    def on(self, file: str) -> Callable[[int], None]:
        """A function that counts bytes of that file."""

        def count(length: int) -> None:
            with self._lock:
                self._done += length
                now = time.monotonic()
                if now < self._next and self._done < self._total:
                    return
                self._next = now + INTERVAL
                self._progress(BytesAdvanced(self._stage, self._done, self._total, file))

        return count


@dataclass(frozen=True)
class HashJob:
    """A file to hash."""

    path: Path
    algorithm: Algorithm
    size: int  #: bytes, for the progress
    name: str  #: for display


def hash_file(path: Path, algorithm: Algorithm, on_bytes: Callable[[int], None], cancel: CancelToken | None) -> str:
    """The hash of a file in hexadecimal digits; ``on_bytes`` is called with the length of each chunk.

    Raises:
        CancelledError: ``cancel`` was set.
        OSError: the file cannot be read.
    """
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        digest = new_hash(algorithm, os.fstat(file.fileno()).st_size)
        while length := file.readinto(buffer):
            digest.update(view[:length])
            on_bytes(length)
            if cancel is not None:
                cancel.check()
    return digest.hexdigest()


def hash_files(jobs: Sequence[HashJob], meter: Meter, cancel: CancelToken | None) -> list[str | OSError]:
    """The hash of each file in the order of ``jobs``, or the error with which reading it failed.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    stop = (cancel or CancelToken()).child()

    def run(job: HashJob) -> str | OSError:
        try:
            return hash_file(job.path, job.algorithm, meter.on(job.name), stop)
        except OSError as exc:
            return exc

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="gpux-hash") as pool:
        # The largest file first; otherwise one thread may hash it alone at the end.
        order = sorted(range(len(jobs)), key=lambda index: -jobs[index].size)
        futures = {index: pool.submit(run, jobs[index]) for index in order}
        try:
            return [futures[index].result() for index in range(len(jobs))]
        finally:
            stop.cancel()  # after Ctrl-C, the threads end at their next chunk
            pool.shutdown(cancel_futures=True)


def new_hash(algorithm: Algorithm, size: int) -> hashlib._Hash:
    """An empty hash of a file of ``size`` bytes, to be updated with the content."""
    if algorithm == "sha256":
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def hash_bytes(data: bytes, algorithm: Algorithm) -> str:
    """The hash of a file's content in hexadecimal digits."""
    digest = new_hash(algorithm, len(data))
    digest.update(data)
    return digest.hexdigest()
