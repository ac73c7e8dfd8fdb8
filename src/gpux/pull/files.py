"""Downloading files of a model as they are: other formats, packages, single files. Nothing is converted or stored."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from gpux.errors import EntryNotFoundError, GpuxError, SessionError, UnsafePathError
from gpux.inspect.formats import Selection, onnx_variants, select, units
from gpux.managers.base import ModelManager
from gpux.managers.registry import manager_for
from gpux.model.info import ModelInfo, SourceSnapshot
from gpux.model.reference import ModelRef, Reference
from gpux.model.units import format_bytes
from gpux.model.values import Value
from gpux.pull.graph_data import GraphReader
from gpux.pull.needs import (
    PlannedFile,
    SpaceNeed,
    disk_refusal,
    download_bytes,
    download_need,
    planned_files,
    space_needs,
)
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback, Stages
from gpux.system.progress_argument import callback
from gpux.system.settings import Settings
from gpux.system.words import counted


@dataclass(frozen=True)
class FilesPlan(Value):
    """What :func:`pull_files` downloads, or why it is refused."""

    id: str
    commit: str
    files: tuple[PlannedFile, ...]
    left_out: tuple[PlannedFile, ...]
    space: tuple[SpaceNeed, ...]
    refusal: GpuxError | None = field(default=None, repr=False)  #: what the call raises before it downloads anything
    info: ModelInfo | None = field(default=None, repr=False)

    @property
    def total_bytes(self) -> int:
        """Bytes of all selected files."""
        return sum(file.size or 0 for file in self.files)

    @property
    def fetch_bytes(self) -> int:
        """Bytes of the files that are downloaded."""
        return download_bytes(self.files)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values, with the sums and the error."""
        return {
            **super().to_dict(),
            "kind": "files",
            "total_bytes": self.total_bytes,
            "fetch_bytes": self.fetch_bytes,
            "error": self.refusal.to_dict() if self.refusal else None,
        }


def plan_files(
    ref: Reference,
    *,
    revision: str | None = None,
    selection: Selection | None = None,
    ignore_disk_space: bool = False,
    manager: ModelManager | None = None,
    settings: Settings | None = None,
    cancel: CancelToken | None = None,
) -> FilesPlan:
    """The files that :func:`pull_files` downloads for the same arguments: one request.

    Raises:
        EntryNotFoundError: no file matches; the message lists the files of the model.
        NoWeightsError: the model has no weights in the selected format and precision.
        GpuxError: what :meth:`ModelManager.resolve` raises.
    """
    parsed, source = _source(ref, revision, manager, settings)
    info = source.resolve(parsed, cancel=cancel)
    return _plan(info, parsed, selection, source, cancel, ignore_disk_space=ignore_disk_space)


def pull_files(
    ref: Reference,
    *,
    revision: str | None = None,
    selection: Selection | None = None,
    ignore_disk_space: bool = False,
    manager: ModelManager | None = None,
    settings: Settings | None = None,
    progress: ProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
) -> SourceSnapshot:
    """Download the selected files into the source cache and check their hashes; packages and shards are kept whole.

    Args:
        ref: any form that :meth:`ModelRef.parse` accepts; one that names a file selects that file.
        revision: branch, tag, ``refs/pr/N`` or commit.
        selection: by default what a run needs, in one format and one precision.
        ignore_disk_space: begin although the free disk space looks too small.
        manager: where the model comes from; by default the manager that is registered for the reference's scheme.
        settings: by default those of the manager, else of the environment.
        progress: as for :func:`gpux.pull_model`.
        cancel: set it to end the call with ``CancelledError``; the bytes received so far are kept.

    Raises:
        EntryNotFoundError: no file matches; the message lists the files of the model.
        NoWeightsError: the model has no weights in the selected format and precision.
        DiskFullError: the files do not fit on the disk.
        GpuxError: what :meth:`ModelManager.resolve` and :meth:`ModelManager.fetch` raise.
    """
    stages = Stages(callback(progress))
    parsed, source = _source(ref, revision, manager, settings)
    with stages.stage("resolve", f"Looking up {parsed}") as done:
        info = source.resolve(parsed, cancel=cancel)
        done(f"found {info.id} at {info.commit[:12]}")
    plan = _plan(info, parsed, selection, source, cancel, ignore_disk_space=ignore_disk_space)
    if plan.refusal is not None:
        raise plan.refusal
    paths = [file.path for file in plan.files]
    with stages.stage("download", f"Downloading {counted(len(paths), 'file')}") as done:
        snapshot = source.fetch(info, paths, progress=stages.progress, cancel=cancel)
        received = snapshot.report.received if snapshot.report else plan.fetch_bytes
        done(f"fetched {counted(len(paths), 'file')}, {format_bytes(received)} over the network, every hash right")
    return snapshot


def _source(
    ref: Reference, revision: str | None, manager: ModelManager | None, settings: Settings | None
) -> tuple[ModelRef, ModelManager]:
    parsed = ModelRef.parse(ref).at(revision)
    return parsed, manager or manager_for(parsed.scheme, settings or Settings.from_env())


def _plan(
    info: ModelInfo,
    ref: ModelRef,
    selection: Selection | None,
    manager: ModelManager,
    cancel: CancelToken | None,
    *,
    ignore_disk_space: bool,
) -> FilesPlan:
    chosen = selection or Selection()
    if ref.precision is not None and chosen.precision is None:
        chosen = replace(chosen, precision=ref.precision)
    if ref.file is not None and chosen.file is None:
        chosen = replace(chosen, file=ref.file)
    selected = select(info.files, chosen)
    if not selected.paths:
        raise EntryNotFoundError(f"{info.id} has no files at {info.commit[:12]}", model=info.id)
    cached = manager.cached(info, [file.path for file in info.files])
    reasons = {file.path: file.reason for file in selected.chosen}
    if not chosen.exclude:
        reasons |= _graph_data(info, tuple(reasons), GraphReader(manager, info, cached, cancel))
    files, left_out = planned_files(info, reasons, {file.path: file.reason for file in selected.left_out}, cached)
    space = space_needs(download_need(manager, files))
    refusal = None if ignore_disk_space else disk_refusal(space)
    return FilesPlan(info.id, info.commit, files, left_out, space, refusal, info)


def _graph_data(info: ModelInfo, paths: tuple[str, ...], reader: GraphReader) -> dict[str, str]:
    """The files that the selected graphs name, under any name, with a reason; a file that is missing is left out."""
    found = {}
    for graph in onnx_variants(paths):
        with suppress(EntryNotFoundError, SessionError, UnsafePathError):
            named = reader.read(graph).external_data
            found.update({path: f"external data of {graph.graph}" for path in named if path not in paths})
    return found


def place_of(snapshot: SourceSnapshot) -> Path:
    """The path that a user opens: the one file or package of the snapshot, else its folder."""
    if len(snapshot.files) == 1:
        return snapshot.path / snapshot.files[0]
    found = units(snapshot.files)
    if len(found) == 1 and found[0].kind == "package":
        name = found[0].name
        return snapshot.path / (str(PurePosixPath(name).parent) if name.endswith("saved_model.pb") else name)
    return snapshot.path
