"""Is a variant still what its manifest promises: every file there, of its size and hash, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpux.cancel import CancelToken
from gpux.errors import ManifestError
from gpux.progress import ProgressCallback, silent
from gpux.store import tree
from gpux.store.manifest import MANIFEST, read_manifest
from gpux.types import StoredFile, StoredModel, Value

ProblemKind = Literal["missing", "size", "hash", "extra", "link", "unreadable", "manifest"]


@dataclass(frozen=True)
class Problem(Value):
    """One way in which a variant is not what was promised."""

    file: str  #: relative to the variant's folder
    kind: ProblemKind
    message: str


@dataclass(frozen=True)
class VerifyReport(Value):
    """What :func:`verify` found."""

    path: Path
    id: str
    commit: str
    task: str
    precision: str
    files: int  #: promised
    size: int  #: bytes promised
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """True without any problem."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values, with ``ok``."""
        return {"ok": self.ok, **super().to_dict()}


def verify(
    model: StoredModel,
    *,
    hashes: bool = True,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> VerifyReport:
    """Compare the variant's folder with its manifest; offline. Without ``hashes`` no content is read.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    manifest = model.manifest
    meter = tree.Meter("verify", model.size, progress or silent)
    problems = tuple(_problems(model, meter if hashes else None, cancel))
    count = len(manifest.files)
    return VerifyReport(
        model.path, manifest.id, manifest.commit, manifest.task, manifest.precision, count, model.size, problems
    )


def _problems(model: StoredModel, meter: tree.Meter | None, cancel: CancelToken | None) -> Iterator[Problem]:
    try:
        present = {found.name: found for found in tree.walk(model.path)}
    except OSError as exc:
        yield Problem("", "unreadable", f"{model.path} cannot be read: {exc.strerror}")
        return
    yield from _manifest_problems(model)
    present.pop(MANIFEST, None)
    for file in model.manifest.files:
        found = present.pop(file.path, None)
        problem = _file_problem(file, found, meter, cancel)
        if problem is not None:
            yield problem
    for name in present:
        yield Problem(name, "extra", f"{name} is not in the manifest")


def _manifest_problems(model: StoredModel) -> Iterator[Problem]:
    try:
        manifest = read_manifest(model.path / MANIFEST)
    except ManifestError as exc:
        yield Problem(MANIFEST, "manifest", exc.message)
        return
    if manifest != model.manifest:
        yield Problem(MANIFEST, "manifest", f"{MANIFEST} changed after it was read")


def _file_problem(
    file: StoredFile, found: tree.Found | None, meter: tree.Meter | None, cancel: CancelToken | None
) -> Problem | None:
    if found is None:
        return Problem(file.path, "missing", f"{file.path} is missing")
    if not found.is_own:
        return Problem(file.path, "link", f"{file.path} is no file of its own but a link")
    if found.size != file.size:
        return Problem(file.path, "size", f"{file.path} has {found.size} bytes, expected {file.size}")
    return _hash_problem(file, found, meter, cancel) if meter is not None else None


def _hash_problem(file: StoredFile, found: tree.Found, meter: tree.Meter, cancel: CancelToken | None) -> Problem | None:
    try:
        actual = tree.sha256_of(found.path, meter.on(file.path), cancel)
    except OSError as exc:
        return Problem(file.path, "unreadable", f"{file.path} cannot be read: {exc.strerror}")
    if actual != file.sha256:
        return Problem(file.path, "hash", f"{file.path} has sha256 {actual}, expected {file.sha256}")
    return None
