"""What the store holds: every variant whose manifest is sound and says where it lies, and every one that is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpux.errors import ManifestError
from gpux.model.values import Value
from gpux.model.variant import Manifest, StoredModel
from gpux.store.layout import Layout
from gpux.store.manifest import MANIFEST, read_manifest


@dataclass(frozen=True)
class DamagedVariant(Value):
    """A folder among the models that is not listed, and why."""

    path: Path
    message: str


@dataclass(frozen=True)
class Listing:
    """Both kinds, in the order of their paths."""

    models: tuple[StoredModel, ...]
    damaged: tuple[DamagedVariant, ...]


#: Folders between ``models/`` and a variant: scheme, id, commit, variant.
DEPTH = 4


def scan(layout: Layout, under: Path | None = None) -> Listing:
    """Read all manifests of the store, or those below one folder of it; no folder there reads as empty."""
    start = under or layout.models
    depth = DEPTH - len(start.relative_to(layout.models).parts)
    models: list[StoredModel] = []
    damaged: list[DamagedVariant] = []
    for folder in _descend(start, depth, damaged):
        found = read_variant(layout, folder)
        if isinstance(found, StoredModel):
            models.append(found)
        elif found is not None:
            damaged.append(found)
    return Listing(tuple(models), tuple(damaged))


def read_variant(layout: Layout, folder: Path) -> StoredModel | DamagedVariant | None:
    """The variant in ``folder``, or why it is none; None when the folder is not there."""
    try:
        manifest = _read_settled(folder)
    except ManifestError as exc:
        return DamagedVariant(folder, exc.message) if folder.is_dir() else None
    if layout.variant(manifest.key) != folder:
        # Moved or renamed by hand: locks and removal go by the place, everyone else by the manifest.
        return DamagedVariant(folder, f"{folder} holds the manifest of another variant")
    return StoredModel(folder, manifest)


def _read_settled(folder: Path) -> Manifest:
    try:
        return read_manifest(folder / MANIFEST)
    except ManifestError:
        if not folder.is_dir():
            raise
        # Where a replaced variant cannot be swapped in one step, the first look may have met the gap between two.
        return read_manifest(folder / MANIFEST)


def _descend(folder: Path, depth: int, damaged: list[DamagedVariant]) -> Iterator[Path]:
    if depth == 0:
        yield folder
        return
    try:
        inner = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    except FileNotFoundError:
        return  # nothing stored, or removed at this moment
    except OSError as exc:
        damaged.append(DamagedVariant(folder, f"{folder} cannot be read: {exc.strerror}"))
        return
    for entry in inner:
        yield from _descend(entry, depth - 1, damaged)
