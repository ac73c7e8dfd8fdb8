"""Repair of a variant in place: files are replaced by copies that match the manifest, and unlisted files deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gpux.model.variant import StoredFile, StoredModel
from gpux.store.layout import Layout
from gpux.store.manifest import MANIFEST
from gpux.store.staging import open_staging, place
from gpux.system import files, locks
from gpux.system.cancel import CancelToken
from gpux.system.disk import disk_errors
from gpux.system.files import sync_file, sync_folder
from gpux.system.hashing import hash_file


def restore(
    layout: Layout,
    model: StoredModel,
    sources: Mapping[str, Path],
    extra: Iterable[str] = (),
    *,
    cancel: CancelToken | None = None,
    on_wait: Callable[[], None] | None = None,
) -> tuple[str, ...]:
    """Replace files of the variant by copies of ``sources``, each in one step, and delete the ``extra`` ones.

    Returns:
        The names that were replaced. Sources that do not match the manifest are skipped.

    Raises:
        NotWritableError: the store is not writable.
        DiskFullError: no space for a copy.
        CancelledError: ``cancel`` was set; each file is the old one or the new one.
    """
    promised = {file.path: file for file in model.manifest.files}
    restored = []
    with (
        locks.hold(layout.lock_of(model.path), cancel=cancel, on_wait=on_wait),
        open_staging(layout) as staging,
        disk_errors(layout.root),
    ):
        for name in extra:
            if name not in promised and name != MANIFEST:
                files.delete(model.path / name)
                files.remove_empty((model.path / name).parent, model.path)
        for number, (name, source) in enumerate(sources.items()):
            copy = staging.scratch / str(number)
            place(source, copy)
            if _matches(copy, promised[name], cancel):
                _put(copy, model.path / name, model.path)
                restored.append(name)
    return tuple(restored)


def _matches(copy: Path, promised: StoredFile, cancel: CancelToken | None) -> bool:
    if copy.stat().st_size != promised.size:
        return False
    return hash_file(copy, "sha256", lambda length: None, cancel) == promised.sha256


def _put(copy: Path, target: Path, variant: Path) -> None:
    sync_file(copy)
    if target.is_dir() and not target.is_symlink():
        files.delete(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    copy.replace(target)
    for folder in (target.parent, variant):
        sync_folder(folder)
