"""The mutable state of a variant: when it was last used, whether it is pinned, where its proof was replayed.

::

    <variant>.used           empty; its modification time is the last use
    <variant>.pinned         empty; exists while the variant is pinned
    <variant>.replays.json   runtimes with which the proof was replayed (gpux.proof.replay)

The files are beside the variant's folder, which itself never changes, and are removed with it. If they cannot be
written, the last use of a variant is its creation.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from gpux.model.variant import StoredModel

USED = ".used"
PINNED = ".pinned"
SUFFIXES = (USED, PINNED, ".replays.json")
INTERVAL = 60.0  #: seconds after a recorded use in which no other is recorded

_BEGINNING = datetime.fromtimestamp(0, UTC)


def touch(model: StoredModel) -> None:
    """Record that the variant is used now; costs one ``stat`` if it was within the last minute.

    In a folder that is not writable, nothing is recorded.
    """
    file = _beside(model.path, USED)
    with suppress(OSError):
        age = time.time() - file.stat().st_mtime
        if 0 <= age < INTERVAL:
            return
    with suppress(OSError):
        if model.path.is_dir():  # otherwise it was removed meanwhile, and the file would remain
            file.touch()


def last_used(model: StoredModel) -> datetime:
    """When the variant was last used, or created."""
    try:
        return datetime.fromtimestamp(_beside(model.path, USED).stat().st_mtime, UTC)
    except OSError:
        return _created(model)


def pin(model: StoredModel) -> None:
    """Keep the variant from being evicted or pruned.

    Raises:
        OSError: the folder is not writable.
    """
    _beside(model.path, PINNED).touch()


def unpin(model: StoredModel) -> None:
    """Allow the variant to be evicted and pruned again; it need not be pinned.

    Raises:
        OSError: the folder is not writable.
    """
    _beside(model.path, PINNED).unlink(missing_ok=True)


def is_pinned(variant: Path) -> bool:
    """Whether the variant in that folder is pinned; its manifest may be damaged."""
    return os.path.lexists(_beside(variant, PINNED))


def drop(variant: Path) -> None:
    """Delete the state of a removed variant; files that cannot be deleted are left to prune."""
    for suffix in SUFFIXES:
        with suppress(OSError):
            _beside(variant, suffix).unlink(missing_ok=True)


def size_of(variant: Path) -> int:
    """Bytes of the state of a variant."""
    total = 0
    for suffix in SUFFIXES:
        with suppress(OSError):
            total += _beside(variant, suffix).lstat().st_size
    return total


def orphaned(commits: Iterator[Path]) -> Iterator[Path]:
    """Paths of removed variants whose state a killed removal left, in the given folders of commits."""
    for commit in commits:
        with suppress(OSError):
            files = [entry.name for entry in os.scandir(commit) if entry.is_file(follow_symlinks=False)]
            names = {name.removesuffix(suffix) for name in files for suffix in SUFFIXES if name.endswith(suffix)}
            yield from (commit / name for name in sorted(names) if not (commit / name).exists())


def _beside(variant: Path, suffix: str) -> Path:
    return variant.with_name(variant.name + suffix)


def _created(model: StoredModel) -> datetime:
    try:
        made = datetime.fromisoformat(model.manifest.created)
    except ValueError:
        return _BEGINNING
    return made if made.tzinfo else made.replace(tzinfo=UTC)
