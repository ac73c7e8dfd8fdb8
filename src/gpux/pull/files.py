"""A pull of files as they are: a format that gpux does not run, a package, one file. Nothing is converted or stored."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from gpux.errors import EntryNotFoundError
from gpux.inspect.formats import Selection, select, units
from gpux.managers.base import ModelManager
from gpux.model.info import SourceSnapshot
from gpux.model.reference import Reference
from gpux.pull.preflight import check_space, space_needs
from gpux.system.cancel import CancelToken
from gpux.system.disk import format_bytes
from gpux.system.progress import ProgressCallback, Stages
from gpux.system.progress_argument import callback


def pull_files(
    ref: Reference,
    manager: ModelManager,
    selection: Selection,
    *,
    ignore_disk_space: bool = False,
    progress: ProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
) -> SourceSnapshot:
    """Bring the selected files into the source cache, every byte checked; packages and shards come whole.

    Raises:
        EntryNotFoundError: nothing matches; the message lists what there is.
        NoWeightsError: no weights in the chosen format and precision.
        DiskFullError: the download would not fit.
        GpuxError: what :meth:`ModelManager.resolve` and :meth:`ModelManager.fetch` raise.
    """
    stages = Stages(callback(progress))
    with stages.stage("resolve", f"Looking up {ref}") as done:
        info = manager.resolve(ref, cancel=cancel)
        done(f"found {info.id} at {info.commit[:12]}")
    paths = select(info.files, selection).paths
    if not paths:
        raise EntryNotFoundError(f"{info.id} has no files at {info.commit[:12]}", model=info.id)
    missing = set(paths) - manager.cached(info, paths)
    size = sum(file.size or 0 for file in info.files if file.path in missing)
    if not ignore_disk_space:
        check_space(space_needs({"the download": (manager.settings.hf_cache, size)}))
    with stages.stage("download", f"Downloading {len(paths)} files") as done:
        snapshot = manager.fetch(info, paths, progress=stages.progress, cancel=cancel)
        travelled = snapshot.report.received if snapshot.report else size
        done(f"fetched {len(paths)} files, {format_bytes(travelled)} over the network, every hash right")
    return snapshot


def place_of(snapshot: SourceSnapshot) -> Path:
    """What a user opens: the file, or the package, if the snapshot's files are one; else the folder of all."""
    if len(snapshot.files) == 1:
        return snapshot.path / snapshot.files[0]
    found = units(snapshot.files)
    if len(found) == 1 and found[0].kind == "package":
        name = found[0].name
        return snapshot.path / (str(PurePosixPath(name).parent) if name.endswith("saved_model.pb") else name)
    return snapshot.path
