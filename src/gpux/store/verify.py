"""Whether a variant matches its manifest: every file present with its size and hash, and no other files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpux.errors import ManifestError
from gpux.model.values import Value
from gpux.model.variant import StoredFile, StoredModel
from gpux.store.manifest import MANIFEST, read_manifest
from gpux.system import files
from gpux.system.cancel import CancelToken
from gpux.system.hashing import HashJob, Meter, hash_files
from gpux.system.progress import ProgressCallback, silent

ProblemKind = Literal["missing", "size", "hash", "extra", "link", "unreadable", "manifest"]


@dataclass(frozen=True)
class Problem(Value):
    """One difference between a variant and its manifest."""

    file: str  #: relative to the variant's folder
    kind: ProblemKind
    message: str


@dataclass(frozen=True)
class VerifyReport(Value):
    """The result of :func:`verify`."""

    path: Path
    id: str
    commit: str
    task: str
    precision: str
    files: int  #: number of files in the manifest
    size: int  #: bytes of all files in the manifest
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """True without problems."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values, with ``ok``."""
        return {"ok": self.ok, **super().to_dict()}


@dataclass(frozen=True)
class _Hashed:
    """A file of the right size, whose hash is not checked yet."""

    file: StoredFile
    path: Path


def verify(
    model: StoredModel,
    *,
    hashes: bool = True,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> VerifyReport:
    """Compare the variant's folder with its manifest, without network; without ``hashes`` only names and sizes.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    return verify_all([model], hashes=hashes, progress=progress, cancel=cancel)[0]


def verify_all(
    models: Sequence[StoredModel],
    *,
    hashes: bool = True,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
) -> list[VerifyReport]:
    """As :func:`verify` for several variants: files are hashed in parallel, and the progress counts all of them.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    found = [list(_inspect(model)) for model in models]
    pending = [finding for findings in found for finding in findings if isinstance(finding, _Hashed)]
    if not hashes:
        pending.clear()
    jobs = [HashJob(entry.path, "sha256", entry.file.size, entry.file.path) for entry in pending]
    meter = Meter("verify", sum(job.size for job in jobs), progress or silent)
    digests = dict(zip(pending, hash_files(jobs, meter, cancel), strict=True))
    return [_report(model, findings, digests) for model, findings in zip(models, found, strict=True)]


def _report(
    model: StoredModel, findings: list[Problem | _Hashed], digests: dict[_Hashed, str | OSError]
) -> VerifyReport:
    problems = []
    for finding in findings:
        problem = finding if isinstance(finding, Problem) else _hash_problem(finding.file, digests.get(finding))
        if problem is not None:
            problems.append(problem)
    manifest = model.manifest
    return VerifyReport(
        path=model.path,
        id=manifest.id,
        commit=manifest.commit,
        task=manifest.task,
        precision=manifest.precision,
        files=len(manifest.files),
        size=model.size,
        problems=tuple(problems),
    )


def _inspect(model: StoredModel) -> Iterator[Problem | _Hashed]:
    """Problems found without reading file contents, and the files whose hashes are to be checked."""
    try:
        present = {found.name: found for found in files.walk(model.path)}
    except OSError as exc:
        yield Problem("", "unreadable", f"{model.path} cannot be read: {exc.strerror}")
        return
    yield from _manifest_problems(model)
    present.pop(MANIFEST, None)
    for file in model.manifest.files:
        yield _inspect_file(file, present.pop(file.path, None))
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


def _inspect_file(file: StoredFile, found: files.FoundFile | None) -> Problem | _Hashed:
    if found is None:
        return Problem(file.path, "missing", f"{file.path} is missing")
    if not found.is_own:
        return Problem(file.path, "link", f"{file.path} is a link")
    if found.size != file.size:
        return Problem(file.path, "size", f"{file.path} has {found.size} bytes, expected {file.size}")
    return _Hashed(file, found.path)


def _hash_problem(file: StoredFile, actual: str | OSError | None) -> Problem | None:
    """None for ``actual``: the hash was not computed."""
    if isinstance(actual, OSError):
        return Problem(file.path, "unreadable", f"{file.path} cannot be read: {actual.strerror}")
    if actual is not None and actual != file.sha256:
        return Problem(file.path, "hash", f"{file.path} has sha256 {actual}, expected {file.sha256}")
    return None
