"""What a pull reads and needs: files, how many bytes of them are downloaded, disk space and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpux.errors import DiskFullError, OutOfMemoryError
from gpux.managers.base import ModelManager
from gpux.model.info import ModelFile, ModelInfo
from gpux.model.units import format_bytes
from gpux.model.values import Value
from gpux.system.disk import free_bytes

#: Bytes that stay free on every disk, for other programs and for errors of the estimate.
RESERVE = 64_000_000


@dataclass(frozen=True)
class PlannedFile(Value):
    """A file of the repository, and why the pull reads it or leaves it out."""

    path: str
    size: int | None  #: bytes; None where the source does not report it
    cached: bool  #: in the source cache, in full length
    reason: str


@dataclass(frozen=True)
class SpaceNeed(Value):
    """The bytes that a pull writes to one file system."""

    folder: Path  #: one of the folders on this file system
    purpose: str
    needed: int  #: bytes, with the reserve
    free: int | None  #: bytes; None where the system does not report them
    reserve: int = RESERVE  #: bytes of ``needed`` that stay free, for other programs and for errors of the estimate

    @property
    def fits(self) -> bool:
        """True if enough bytes are free, or if the system does not report them."""
        return self.free is None or self.needed <= self.free


@dataclass(frozen=True)
class MemoryNeed(Value):
    """The peak memory of a pull, estimated before it begins."""

    purpose: str
    needed: int  #: bytes
    available: int | None  #: bytes; None where the system does not report them

    @property
    def fits(self) -> bool:
        """True if enough bytes are available, or if the system does not report them."""
        return self.available is None or self.needed <= self.available


def planned_files(
    info: ModelInfo, chosen: Mapping[str, str], left_out: Mapping[str, str], cached: set[str]
) -> tuple[tuple[PlannedFile, ...], tuple[PlannedFile, ...]]:
    """The files of a repository that are read, and the others; ``chosen`` and ``left_out`` are path -> reason."""

    def planned(file: ModelFile, reason: str) -> PlannedFile:
        return PlannedFile(file.path, file.size, file.path in cached, reason)

    read = tuple(planned(file, chosen[file.path]) for file in info.files if file.path in chosen)
    others = tuple(
        planned(file, left_out.get(file.path, "not needed to run")) for file in info.files if file.path not in chosen
    )
    return read, others


def download_bytes(files: tuple[PlannedFile, ...]) -> int:
    """Bytes of the files that are not cached."""
    return sum(file.size or 0 for file in files if not file.cached)


def download_need(manager: ModelManager, files: tuple[PlannedFile, ...]) -> dict[str, tuple[Path, int]]:
    """The argument of :func:`space_needs` for the files that are downloaded."""
    return {"the download": (manager.settings.hf_cache, download_bytes(files))}


def space_needs(needs: Mapping[str, tuple[Path, int]]) -> tuple[SpaceNeed, ...]:
    """Purpose -> folder and bytes, added up per file system; a purpose without bytes is left out."""
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


def disk_refusal(needs: tuple[SpaceNeed, ...]) -> DiskFullError | None:
    """The error for the first need that does not fit, with ``needed`` and ``free`` in its details; else None."""
    for need in needs:
        if not need.fits:
            return DiskFullError(
                f"{need.purpose} needs {format_bytes(need.needed - need.reserve)} on the disk of {need.folder}, with "
                f"{format_bytes(need.reserve)} in reserve, and {format_bytes(need.free or 0)} are free",
                hint="Free space (`gpux du`, `gpux prune`), move GPUX_HOME or HF_HOME, or pass --ignore-disk-space.",
                needed=need.needed,
                free=need.free,
                folder=str(need.folder),
            )
    return None


def memory_refusal(need: MemoryNeed | None) -> OutOfMemoryError | None:
    """The error for a need that does not fit, with ``needed`` and ``available`` in its details; else None."""
    if need is None or need.fits:
        return None
    return OutOfMemoryError(
        f"{need.purpose} needs about {format_bytes(need.needed)} of memory, "
        f"and {format_bytes(need.available or 0)} are available",
        hint="Close other programs, use a machine with more memory, or pass --ignore-memory to try it.",
        needed=need.needed,
        available=need.available,
    )


def _device(folder: Path) -> int:
    """The number of the file system that holds the folder, or its closest existing parent."""
    for place in (folder, *folder.absolute().parents):
        try:
            return place.stat().st_dev
        except OSError:  # the folder does not exist yet
            continue
    return 0
