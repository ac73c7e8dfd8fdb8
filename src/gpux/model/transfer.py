"""Counts of a download: requests, retries and bytes, per file and in total."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from gpux.model.values import Value


@dataclass
class Tally:
    """Running counts of one file."""

    requests: int = 0
    retries: int = 0
    received: int = 0


@dataclass(frozen=True)
class FileReport(Value):
    """How one file got into the source cache."""

    path: str
    size: int
    cached: bool = False  #: it was in the cache before
    verified: bool = False  #: its hash was computed and matches
    received: int = 0  #: bytes of content downloaded, failed attempts included
    seconds: float = 0.0
    requests: int = 0  #: redirects included
    retries: int = 0


@dataclass(frozen=True)
class TransferReport(Value):
    """How the files of one fetch got into the source cache."""

    files: tuple[FileReport, ...] = ()
    seconds: float = 0.0  #: wall time of the whole fetch

    @property
    def received(self) -> int:
        """Bytes of content downloaded, failed attempts included."""
        return sum(file.received for file in self.files)

    @property
    def requests(self) -> int:
        """HTTP requests, redirects included."""
        return sum(file.requests for file in self.files)

    @property
    def retries(self) -> int:
        """Requests that failed and were sent again."""
        return sum(file.retries for file in self.files)

    @property
    def cache_hits(self) -> int:
        """Files that were in the cache before."""
        return sum(file.cached for file in self.files)

    @property
    def verified(self) -> int:
        """Files whose hash was computed and matches."""
        return sum(file.verified for file in self.files)

    @property
    def bytes_per_second(self) -> float:
        """Speed of the whole fetch; 0 if nothing was downloaded."""
        return self.received / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Totals and files as JSON-able values."""
        totals = ("received", "requests", "retries", "cache_hits", "verified", "bytes_per_second")
        return {**super().to_dict(), **{name: getattr(self, name) for name in totals}}


def combined(reports: Iterable[TransferReport]) -> TransferReport:
    """One report for several consecutive fetches, with one entry per file; an empty report for none."""
    found = list(reports)
    files: dict[str, FileReport] = {}
    for file in (file for report in found for file in report.files):
        files[file.path] = _added(files[file.path], file) if file.path in files else file
    return TransferReport(tuple(files.values()), sum(report.seconds for report in found))


def _added(first: FileReport, then: FileReport) -> FileReport:
    """A file of two fetches: it was cached if it was before the first."""
    return replace(
        first,
        verified=first.verified or then.verified,
        received=first.received + then.received,
        seconds=first.seconds + then.seconds,
        requests=first.requests + then.requests,
        retries=first.retries + then.retries,
    )
