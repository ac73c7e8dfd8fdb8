"""Verification of the source cache: the name of a blob is the hash of its content. No request is made.

A name of 64 hexadecimal digits is the sha256 of an LFS file, one of 40 digits git's blob sha1 of any other file.
Regular files in a snapshot, as in a cache without symlinks, have no recorded hash and are counted as unchecked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpux.model.values import Value
from gpux.source_cache.scan import CachedCommit, CachedRepository
from gpux.system.cancel import CancelToken
from gpux.system.hashing import Algorithm, HashJob, Meter, hash_files
from gpux.system.progress import ProgressCallback, silent

SourceProblemKind = Literal["hash", "missing", "unreadable"]
_HASHES: tuple[tuple[re.Pattern[str], Algorithm], ...] = (
    (re.compile(r"[0-9a-f]{64}"), "sha256"),
    (re.compile(r"[0-9a-f]{40}"), "git-blob-sha1"),
)


@dataclass(frozen=True)
class SourceProblem(Value):
    """One blob whose content does not match its name."""

    blob: str
    kind: SourceProblemKind
    size: int | None  #: bytes on disk; None if it is missing
    files: tuple[str, ...]  #: paths of the files that link to it
    message: str


@dataclass(frozen=True)
class SourceReport(Value):
    """The result of :func:`verify_sources` for one repository."""

    id: str
    path: Path
    commits: tuple[str, ...]
    files: int  #: blobs with a recorded hash
    size: int  #: bytes of these blobs
    unchecked: int  #: files without a recorded hash
    problems: tuple[SourceProblem, ...] = ()
    unreadable: str | None = None  #: why the repository's folder could not be read

    @property
    def ok(self) -> bool:
        """True if there are no problems."""
        return not self.problems and self.unreadable is None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values, with ``ok``."""
        return {"ok": self.ok, **super().to_dict()}


@dataclass(frozen=True)
class Part:
    """The commits of a repository to verify; if these are all commits, blobs without a commit too."""

    repository: CachedRepository
    commits: tuple[CachedCommit, ...]

    def names(self) -> list[str]:
        """Names of the blobs, sorted."""
        linked = {name for commit in self.commits for name in commit.blobs}
        if self.commits == self.repository.commits:
            linked.update(blob.name for blob in self.repository.blobs)
        return sorted(linked)


def verify_sources(
    parts: Sequence[Part],
    *,
    only: frozenset[str] | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> list[SourceReport]:
    """Hash the blobs of the parts, or only those named in ``only``, in parallel, and compare with their names.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    wanted = [[name for name in part.names() if only is None or name in only] for part in parts]
    jobs = [_jobs(part, names) for part, names in zip(parts, wanted, strict=True)]
    flat = [job for own in jobs for job in own.values()]
    meter = Meter("verify", sum(job.size for job in flat), progress or silent)
    digests = dict(zip(flat, hash_files(flat, meter, cancel), strict=True))
    return [_report(part, names, own, digests) for part, names, own in zip(parts, wanted, jobs, strict=True)]


def _jobs(part: Part, names: list[str]) -> dict[str, HashJob]:
    present = {blob.name: blob for blob in part.repository.blobs}
    files = _links(part)
    found = {}
    for name in names:
        algorithm = _algorithm(name)
        if name in present and algorithm is not None:
            title = next(iter(files.get(name, ())), name)
            path = part.repository.path / "blobs" / name
            found[name] = HashJob(path, algorithm, present[name].size, f"{part.repository.id}/{title}")
    return found


def _report(
    part: Part, names: list[str], jobs: dict[str, HashJob], digests: dict[HashJob, str | OSError]
) -> SourceReport:
    files = _links(part)
    gone = set(names) - {blob.name for blob in part.repository.blobs}
    problems = [
        _missing(name, files) if name in gone else _problem(name, jobs.get(name), digests, files) for name in names
    ]
    odd = sum(1 for name in names if name not in gone and name not in jobs)
    return SourceReport(
        id=part.repository.id,
        path=part.repository.path,
        commits=tuple(commit.commit for commit in part.commits),
        files=len(names) - odd,
        size=sum(job.size for job in jobs.values()),
        unchecked=odd + sum(1 for commit in part.commits for file in commit.files if file.blob is None),
        problems=tuple(problem for problem in problems if problem is not None),
        unreadable=part.repository.problem,
    )


def _links(part: Part) -> dict[str, tuple[str, ...]]:
    """Blob -> paths of the files that link to it, over all commits of the part."""
    found: dict[str, list[str]] = {}
    for commit in part.commits:
        for file in commit.files:
            if file.blob is not None and file.path not in found.setdefault(file.blob, []):
                found[file.blob].append(file.path)
    return {blob: tuple(paths) for blob, paths in found.items()}


def _missing(name: str, files: dict[str, tuple[str, ...]]) -> SourceProblem:
    paths = files.get(name, ())
    return SourceProblem(name, "missing", None, paths, f"{_name(name, paths)} is a broken symlink")


def _problem(
    name: str, job: HashJob | None, digests: dict[HashJob, str | OSError], files: dict[str, tuple[str, ...]]
) -> SourceProblem | None:
    actual = digests[job] if job is not None else name
    if job is None or actual == name:
        return None
    paths = files.get(name, ())
    if isinstance(actual, OSError):
        message = f"{_name(name, paths)} cannot be read: {actual.strerror}"
        return SourceProblem(name, "unreadable", job.size, paths, message)
    message = f"{_name(name, paths)} has the hash {actual}, expected {name}"
    return SourceProblem(name, "hash", job.size, paths, message)


def _name(name: str, paths: tuple[str, ...]) -> str:
    return paths[0] if paths else f"blob {name[:12]}, which no commit uses,"


def _algorithm(name: str) -> Algorithm | None:
    return next((algorithm for pattern, algorithm in _HASHES if pattern.fullmatch(name)), None)
