"""Hashes of the files of local models, kept on disk, so that an unchanged file is not read again.

``home/hashes`` contains one small JSON file for each folder, the :data:`KEPT` newest of them. A hash is used again
while the file has the same size, modification and change time, inode and device. As in git's index (its documentation
names this the "racy git" problem), a time is trusted only if it is older than the moment when the file was read, by
more than the file system can tell apart: a file that changes again within one tick of the clock has the same times.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from gpux.errors import CorruptFileError
from gpux.model.json_file import load_json
from gpux.system.cancel import CancelToken
from gpux.system.files import write_atomic
from gpux.system.hashing import HashJob, Meter, hash_bytes, hash_files
from gpux.system.progress import silent

KEPT = 500  #: folders at most; the oldest are deleted first
SCHEMA = 1
ATTEMPTS = 3  #: reads of a file that changes while it is read
#: Nanoseconds that two writes may be apart and have the same time: a tick of the kernel's clock where times have a
#: fraction of a second (10 ms on Linux at most), else the two seconds of FAT.
_TICK, _COARSE_TICK = 50_000_000, 2_000_000_000
_SECOND = 1_000_000_000

#: Size, modification and change time in nanoseconds, inode, device.
State = tuple[int, int, int, int, int]


def state_of(file: Path) -> State:
    """What a write to a file changes, links followed.

    Raises:
        OSError: the file does not exist.
    """
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


class FileHashes:
    """The sha256 hashes of the files in one folder. A cache that cannot be read or written is as an empty one."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._root = root
        self._path = folder / f"{hash_bytes(os.fsencode(root), 'sha256')[:40]}.json"
        self._folder = folder

    def of(self, files: Iterable[Path], cancel: CancelToken) -> list[tuple[int, str]]:
        """Bytes and sha256 of each file; files that are known and unchanged are not read.

        Raises:
            CorruptFileError: a file changed during each of :data:`ATTEMPTS` reads.
            CancelledError: ``cancel`` was set.
            OSError: a file cannot be read.
        """
        wanted, known = list(files), self._read()
        found: dict[Path, tuple[State, str]] = {}
        fresh: dict[str, list[Any]] = {}
        for file in wanted:
            entry, state = known.get(str(file)), state_of(file)
            if entry is not None and tuple(entry[:5]) == state:
                found[file], fresh[str(file)] = (state, entry[5]), entry
        unread = [file for file in wanted if file not in found]
        for _ in range(ATTEMPTS):
            if not unread:
                break
            started = time.time_ns()
            read = _hashed(unread, cancel)
            found |= read
            fresh |= {str(file): [*state, sha] for file, (state, sha) in read.items() if _is_old(state, started)}
            unread = [file for file in unread if file not in read]
        if unread:
            raise CorruptFileError(
                f"{unread[0]} changes while it is read",
                hint="Wait until the program that writes it has ended, and run the same command again.",
                file=str(unread[0]),
            )
        if fresh != known:
            self._write(fresh)
        return [(found[file][0][0], found[file][1]) for file in wanted]

    def _read(self) -> Mapping[str, list[Any]]:
        try:
            data = load_json(self._path)
            files = data["files"]
            if data["schema"] != SCHEMA or data["root"] != str(self._root):
                return {}
            return {name: entry for name, entry in files.items() if len(entry) == 6 and isinstance(entry[5], str)}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, CorruptFileError):
            return {}

    def _write(self, files: Mapping[str, list[Any]]) -> None:
        with suppress(OSError, UnicodeEncodeError):  # the cache only saves time
            self._folder.mkdir(parents=True, exist_ok=True)
            is_new = not self._path.exists()
            document = {"schema": SCHEMA, "root": str(self._root), "files": files}
            write_atomic(self._path, json.dumps(document), private=True)
            if is_new:
                self._drop_oldest()

    def _drop_oldest(self) -> None:
        found = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in found[KEPT:]:
            path.unlink(missing_ok=True)


def _hashed(files: list[Path], cancel: CancelToken) -> dict[Path, tuple[State, str]]:
    """State and hash of each file that did not change while it was read."""
    before = {file: state_of(file) for file in files}
    jobs = [HashJob(file, "sha256", before[file][0], file.name) for file in files]
    meter = Meter("resolve", sum(state[0] for state in before.values()), silent)
    found = {}
    for file, sha in zip(files, hash_files(jobs, meter, cancel), strict=True):
        if isinstance(sha, OSError):
            raise sha
        if state_of(file) == before[file]:
            found[file] = (before[file], sha)
    return found


def _is_old(state: State, started: int) -> bool:
    """Whether a later write would give the file other times."""
    _, modified, changed, _, _ = state
    fine = changed % _SECOND or modified % _SECOND
    return max(modified, changed) + (_TICK if fine else _COARSE_TICK) <= started
