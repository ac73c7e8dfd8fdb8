"""What changes about a variant while its manifest does not: when it was last used, and whether it is pinned.

::

    <variant>.used           empty; the time of its last change is that of the last use
    <variant>.pinned         empty; stands there as long as the variant is pinned
    <variant>.replays.json   with which runtimes the proof was replayed (gpux.proof.replay)

All lie beside the variant's folder, which itself is never changed, and go with it. Where they cannot be written,
a variant was last used when it was made.
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
INTERVAL = 60.0  #: seconds for which a recorded use stands

_BEGINNING = datetime.fromtimestamp(0, UTC)


def touch(model: StoredModel) -> None:
    """Record that the variant is used now; costs one ``stat`` if it was within the last minute.

    A folder that may not be written is no error: nothing is recorded then.
    """
    file = _beside(model.path, USED)
    with suppress(OSError):
        age = time.time() - file.stat().st_mtime
        if 0 <= age < INTERVAL:
            return
    with suppress(OSError):
        if model.path.is_dir():  # else it was removed meanwhile, and the file would stay alone
            file.touch()


def last_used(model: StoredModel) -> datetime:
    """When the variant was last used, or else made."""
    try:
        return datetime.fromtimestamp(_beside(model.path, USED).stat().st_mtime, UTC)
    except OSError:
        return _made(model)


def pin(model: StoredModel) -> None:
    """Keep the variant from being removed unless it is asked for by name.

    Raises:
        OSError: the folder refuses.
    """
    _beside(model.path, PINNED).touch()


def unpin(model: StoredModel) -> None:
    """End that; the variant need not be pinned.

    Raises:
        OSError: the folder refuses.
    """
    _beside(model.path, PINNED).unlink(missing_ok=True)


def is_pinned(variant: Path) -> bool:
    """Is the variant in that folder pinned, sound or not."""
    return os.path.lexists(_beside(variant, PINNED))


def drop(variant: Path) -> None:
    """Delete what is recorded beside a variant that is gone; what cannot be deleted is left to prune."""
    for suffix in SUFFIXES:
        with suppress(OSError):
            _beside(variant, suffix).unlink(missing_ok=True)


def size_of(variant: Path) -> int:
    """Bytes of what is recorded beside it."""
    total = 0
    for suffix in SUFFIXES:
        with suppress(OSError):
            total += _beside(variant, suffix).lstat().st_size
    return total


def left_alone(commits: Iterator[Path]) -> Iterator[Path]:
    """Folders of variants that are gone, of which a killed removal left such files, in the given commits' folders."""
    for commit in commits:
        with suppress(OSError):
            files = [entry.name for entry in os.scandir(commit) if entry.is_file(follow_symlinks=False)]
            names = {name.removesuffix(suffix) for name in files for suffix in SUFFIXES if name.endswith(suffix)}
            yield from (commit / name for name in sorted(names) if not (commit / name).exists())


def _beside(variant: Path, suffix: str) -> Path:
    return variant.with_name(variant.name + suffix)


def _made(model: StoredModel) -> datetime:
    try:
        made = datetime.fromisoformat(model.manifest.created)
    except ValueError:
        return _BEGINNING
    return made if made.tzinfo else made.replace(tzinfo=UTC)
