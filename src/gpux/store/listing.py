"""The variants in a store: reading all manifests, and choosing the variant that a reference stands for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpux.errors import ManifestError, NotStoredError
from gpux.model.precisions import preference
from gpux.model.reference import ModelRef
from gpux.model.values import Value
from gpux.model.variant import Manifest, StoredModel
from gpux.store.layout import Layout
from gpux.store.manifest import MANIFEST, read_manifest


@dataclass(frozen=True)
class DamagedVariant(Value):
    """A folder of a variant that cannot be read, and the reason."""

    path: Path
    message: str


@dataclass(frozen=True)
class Listing:
    """Readable and damaged variants, each in the order of their paths."""

    models: tuple[StoredModel, ...]
    damaged: tuple[DamagedVariant, ...]


_PROOFS = ("proven", "shipped", "inexact")
#: Folders between ``models/`` and a variant: scheme, id, commit, variant.
DEPTH = 4


def scan(layout: Layout, under: Path | None = None) -> Listing:
    """Read all manifests of the store, or those below the folder ``under``; a missing folder is empty."""
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


def folders_named(ref: ModelRef, models: Iterable[StoredModel]) -> list[str]:
    """The ids of local models whose folder has the name that a reference uses as the short name of a Hub model."""
    if ref.scheme != "hf" or "/" in ref.id:
        return []
    ids = {model.id for model in models if model.manifest.scheme == "local"}
    return sorted(id for id in ids if Path(id).name == ref.id)


def read_variant(layout: Layout, folder: Path) -> StoredModel | DamagedVariant | None:
    """The variant in ``folder``, or why it cannot be read; None for a missing folder."""
    try:
        manifest = _read_settled(folder)
    except ManifestError as exc:
        return DamagedVariant(folder, exc.message) if folder.is_dir() else None
    if layout.variant(manifest.key) != folder:
        # Moved or renamed by hand: locks and removal go by the path, all else by the manifest.
        return DamagedVariant(folder, f"{folder} holds the manifest of another variant")
    return StoredModel(folder, manifest)


def _read_settled(folder: Path) -> Manifest:
    try:
        return read_manifest(folder / MANIFEST)
    except ManifestError:
        if not folder.is_dir():
            raise
        # Where two folders cannot be exchanged in one step, the first read may fall between the two renames.
        return read_manifest(folder / MANIFEST)


def _descend(folder: Path, depth: int, damaged: list[DamagedVariant]) -> Iterator[Path]:
    if depth == 0:
        yield folder
        return
    try:
        inner = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    except FileNotFoundError:
        return  # nothing stored, or just removed
    except OSError as exc:
        damaged.append(DamagedVariant(folder, f"{folder} cannot be read: {exc.strerror}"))
        return
    for entry in inner:
        yield from _descend(entry, depth - 1, damaged)


def choose(models: Sequence[StoredModel], task: str | None, precision: str | None) -> StoredModel | None:
    """The variant for the task and precision; of several, by own task, precision, proof and age."""
    fitting = [model for model in models if _fits(model, task, precision)]
    return min(sorted(fitting, key=_created, reverse=True), key=_rank, default=None)


def choose_default(models: Sequence[StoredModel], task: str | None, chosen: str | None) -> StoredModel | None:
    """The variant for a reference without a precision: in the chosen precision where that is stored for the task."""
    best = choose(models, task, None)
    if best is None or chosen is None:
        return best
    return choose(models, best.task, chosen) or best


def not_stored(
    ref: ModelRef, id: str, models: Sequence[StoredModel], task: str | None, precision: str | None
) -> NotStoredError:
    """The error for a reference to a model that is not in ``models``; ``id`` is its canonical id."""
    wanted = ", ".join(part for part in (task, precision if ref.precision is None else None) if part)
    message = f"{ref} is not in the store" + (f" with {wanted}" if wanted else "")
    own = [model for model in models if (model.manifest.scheme, model.id) == (ref.scheme, id)]
    if own:
        message += "; stored: " + ", ".join(f"{m.commit[:12]} ({m.task}, {m.manifest.precision})" for m in own)
    near = [] if own else _near(ref.id, {model.id for model in models})
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    hint += f"`gpux list` shows what is stored, `gpux pull {ref}` fetches it."
    return NotStoredError(message, hint=hint, reference=str(ref), near=near)


def _fits(model: StoredModel, task: str | None, precision: str | None) -> bool:
    return task in (None, model.task) and precision in (None, model.manifest.precision)


def _created(model: StoredModel) -> tuple[str, str]:
    return model.manifest.created, model.path.name


def _rank(model: StoredModel) -> tuple[bool, int, int]:
    manifest = model.manifest
    return not manifest.own_task, preference(manifest.precision), _PROOFS.index(manifest.proof.status)


def _near(name: str, ids: set[str]) -> list[str]:
    """Stored ids similar to the name, compared in full and without the organization."""
    low = name.lower()
    by_spelling = {id.lower(): id for id in ids} | {id.lower().rpartition("/")[2]: id for id in ids}
    found = difflib.get_close_matches(low, by_spelling, n=3, cutoff=0.6)
    found += difflib.get_close_matches(low.rpartition("/")[2], by_spelling, n=3, cutoff=0.6)
    return list(dict.fromkeys(by_spelling[spelling] for spelling in found))[:3]
