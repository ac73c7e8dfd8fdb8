"""Before the first byte: is there room for the download and for what is made from it, on disk and in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpux.errors import DiskFullError, OutOfMemoryError
from gpux.model.values import Value
from gpux.system.disk import format_bytes, free_bytes

#: Left alone on every disk: other programs need room too, and estimates are estimates.
RESERVE = 64_000_000


@dataclass(frozen=True)
class SpaceNeed(Value):
    """What one file system has to hold."""

    folder: Path  #: one of the folders that lie on it
    purpose: str
    needed: int  #: bytes, the reserve included
    free: int | None  #: None where the system does not tell

    @property
    def fits(self) -> bool:
        """True if there is room, or no telling."""
        return self.free is None or self.needed <= self.free


def space_needs(needs: Mapping[str, tuple[Path, int]]) -> tuple[SpaceNeed, ...]:
    """Purposes with their folder and bytes, added up where folders share a file system."""
    by_disk: dict[int, list[tuple[str, Path, int]]] = {}
    for purpose, (folder, size) in needs.items():
        if size > 0:
            by_disk.setdefault(_device(folder), []).append((purpose, folder, size))
    return tuple(
        SpaceNeed(
            items[0][1],
            " and ".join(purpose for purpose, _, _ in items),
            RESERVE + sum(size for _, _, size in items),
            free_bytes(items[0][1]),
        )
        for items in by_disk.values()
    )


def check_space(needs: tuple[SpaceNeed, ...]) -> None:
    """Return if everything fits.

    Raises:
        DiskFullError: with the numbers, in ``details`` too (``needed``, ``free``).
    """
    for need in needs:
        if not need.fits:
            raise DiskFullError(
                f"{need.purpose} needs {format_bytes(need.needed)} on the disk of {need.folder}, "
                f"and {format_bytes(need.free or 0)} are free",
                hint="Make room (`gpux du`, `gpux prune`), move GPUX_HOME or HF_HOME, or use --ignore-disk-space.",
                needed=need.needed,
                free=need.free,
                folder=str(need.folder),
            )


def check_memory(needed: int, available: int | None, purpose: str = "the conversion") -> None:
    """Return if that many bytes are available, or if the system does not tell.

    Raises:
        OutOfMemoryError: with the numbers, in ``details`` too (``needed``, ``available``).
    """
    if available is not None and needed > available:
        raise OutOfMemoryError(
            f"{purpose} needs about {format_bytes(needed)} of memory, and {format_bytes(available)} are available",
            hint="Free some, use a larger machine, or try all the same with --ignore-memory.",
            needed=needed,
            available=available,
        )


def _device(folder: Path) -> int:
    """The file system that holds the folder, or will hold it."""
    for place in (folder, *folder.absolute().parents):
        try:
            return place.stat().st_dev
        except OSError:  # not there yet
            continue
    return 0
