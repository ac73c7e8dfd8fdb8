"""Removing variants: first a plan with reasons and the bytes it frees, then ``execute()``.

A variant is moved to the trash under its lock, then deleted, then the records of names that resolve to nothing any
more are deleted. If the process is killed in between, the store is intact and ``Store.prune_plan()`` finds the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from gpux.errors import ManifestError, NotStoredError
from gpux.model.units import format_bytes
from gpux.model.values import Value
from gpux.model.variant import StoredModel
from gpux.store import state
from gpux.store.layout import Layout
from gpux.store.listing import DEPTH, DamagedVariant, Listing, read_variant, scan
from gpux.store.refs import Alias, DefaultPrecision, RecordedRef, Refs
from gpux.store.staging import discard, drop_lock, lock_of
from gpux.system import files, locks
from gpux.system.cancel import CancelToken
from gpux.system.disk import disk_errors

RemovalKind = Literal["requested", "superseded", "evicted", "damaged", "state", "staging", "trash"]


@dataclass(frozen=True)
class Removal(Value):
    """One folder to remove."""

    path: Path
    kind: RemovalKind
    title: str  #: for display
    reason: str
    size: int  #: bytes on disk
    last_used: str | None = None  #: ISO 8601, UTC; of evicted variants


@dataclass(frozen=True)
class RemovalPlan(Value):
    """The folders and records to remove; nothing is removed before :meth:`execute`."""

    root: Path  #: of the store
    removals: tuple[Removal, ...]
    refs: tuple[RecordedRef, ...] = ()  #: recorded revisions whose commit is not stored afterwards
    aliases: tuple[Alias, ...] = ()  #: recorded names whose model is not stored afterwards
    defaults: tuple[DefaultPrecision, ...] = ()  #: chosen precisions that are not stored afterwards

    @property
    def bytes_freed(self) -> int:
        """Bytes on disk of all folders to remove."""
        return sum(removal.size for removal in self.removals)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-able values, with ``bytes_freed``."""
        return {"bytes_freed": self.bytes_freed, **super().to_dict()}

    def execute(self, *, cancel: CancelToken | None = None, on_wait: Callable[[], None] | None = None) -> int:
        """Remove the folders, then the records; returns the bytes that were freed.

        Each removal is checked again: folders that came into use, were repaired or are missing are skipped. For a
        variant that the user named, the call waits until a running conversion releases its lock, and calls ``on_wait``
        once; all other folders in use are skipped. Do not call this while holding a lock of the store.

        Raises:
            NotWritableError: a folder is not writable; what was removed before stays removed.
            CancelledError: ``cancel`` was set; what was removed before stays removed.
        """
        executor = _Executor(Layout(self.root), cancel, on_wait)
        with disk_errors(self.root):
            freed = sum(executor.remove(removal) for removal in self.removals)
        if self.refs or self.aliases or self.defaults:
            kept = {_precision_of(model) for model in scan(executor.layout).models} if self.defaults else set()
            defaults = [one for one in self.defaults if (one.scheme, one.id, one.precision) not in kept]
            Refs(executor.layout).drop(self.refs, self.aliases, defaults)
        return freed


@dataclass(frozen=True)
class _Executor:
    layout: Layout
    cancel: CancelToken | None
    on_wait: Callable[[], None] | None

    def remove(self, removal: Removal) -> int:
        """Bytes freed; 0 for a folder that is skipped or missing."""
        if self.cancel is not None:
            self.cancel.check()
        if removal.kind == "trash":
            files.delete(removal.path)
            return removal.size
        if removal.kind == "requested":
            with locks.hold(self.layout.lock_of(removal.path), cancel=self.cancel, on_wait=self.on_wait):
                return self._discard(removal)
        lock = lock_of(removal.path) if removal.kind == "staging" else self.layout.lock_of(removal.path)
        with locks.try_hold(lock) as held:
            return self._discard(removal) if held and self._still_holds(removal) else 0

    def _discard(self, removal: Removal) -> int:
        if removal.kind == "staging":
            drop_lock(removal.path)
        gone = self._gone(removal)
        if removal.kind != "staging" and not removal.path.exists():
            state.drop(removal.path)
            files.remove_empty(removal.path.parent, self.layout.models)
        return removal.size if gone else 0

    def _gone(self, removal: Removal) -> bool:
        if removal.kind == "state":
            return True
        try:
            return discard(self.layout, removal.path)
        except PermissionError:
            if removal.kind != "evicted":
                raise
            return False  # Windows moves no folder with files that a session has open

    def _still_holds(self, removal: Removal) -> bool:
        """Whether the reason for the removal still holds; called under the lock."""
        if removal.kind == "staging":
            return True
        if state.is_pinned(removal.path) and removal.path.exists():
            return False
        found = read_variant(self.layout, removal.path)
        if removal.kind == "state":
            return found is None
        if removal.kind == "damaged":
            return isinstance(found, DamagedVariant)
        if not isinstance(found, StoredModel):
            return False
        if removal.kind == "evicted":
            return state.last_used(found).isoformat() == removal.last_used
        return _is_superseded(found, Refs(self.layout), _listing_of(self.layout, found))


def plan_removal(layout: Layout, models: Iterable[StoredModel]) -> RemovalPlan:
    """A plan for the given variants, and for the records that resolve to nothing without them.

    Raises:
        NotStoredError: a variant is not in this store.
    """
    going = {model.path: model for model in models}
    for model in going.values():
        if model.path != layout.variant(model.key):
            raise NotStoredError(f"{model.path} is not in the store at {layout.root}", path=str(model.path))
    return _with_names(layout, going, tuple(_requested(model) for model in going.values()))


def plan_eviction(layout: Layout, limit: int, keep: Iterable[StoredModel] = ()) -> RemovalPlan:
    """A plan for the least recently used variants, until the rest fits into ``limit`` bytes.

    Pinned variants and those in ``keep`` are not removed, so that the rest may still be larger.
    """
    kept = {model.path for model in keep}
    models = scan(layout).models
    sizes = {model.path: files.size_of(model.path) for model in models}
    excess = sum(sizes.values()) - limit
    going, removals = {}, []
    for model in sorted(models, key=lambda model: (state.last_used(model), model.path)):
        if excess <= 0:
            break
        if model.path not in kept and not state.is_pinned(model.path):
            used, size = state.last_used(model), sizes[model.path]
            reason = f"last used {used:%Y-%m-%d %H:%M} UTC; the limit of the store is {format_bytes(limit)}"
            removals.append(Removal(model.path, "evicted", str(model.key), reason, size, used.isoformat()))
            going[model.path] = model
            excess -= size
    # Aliases are kept: files in the source cache can be used under any of the names, offline too. The user's choice of
    # a precision is kept for the next pull.
    return replace(_with_names(layout, going, tuple(removals)), aliases=(), defaults=())


def _with_names(layout: Layout, going: dict[Path, StoredModel], removals: tuple[Removal, ...]) -> RemovalPlan:
    """The plan, with the records that resolve to nothing after the removals."""
    staying = [model for model in scan(layout).models if model.path not in going]
    commits = {(model.manifest.scheme, model.id, model.commit) for model in going.values()}
    ids = {(model.manifest.scheme, model.id) for model in going.values()}
    commits -= {(model.manifest.scheme, model.id, model.commit) for model in staying}
    refs = tuple(ref for key in sorted(ids) for ref in _refs_of(Refs(layout), *key) if _commit_of(ref) in commits)
    ids -= {(model.manifest.scheme, model.id) for model in staying}
    aliases = tuple(alias for alias in Refs(layout).aliases() if (alias.scheme, alias.id) in ids)
    return RemovalPlan(layout.root, removals, refs, aliases, _defaults_without(layout, going.values(), staying))


def _defaults_without(
    layout: Layout, going: Iterable[StoredModel], staying: Iterable[StoredModel]
) -> tuple[DefaultPrecision, ...]:
    """The chosen precisions of models that are not stored in that precision after the removals."""
    refs = Refs(layout)
    lost = sorted({_precision_of(model) for model in going} - {_precision_of(model) for model in staying})
    return tuple(
        DefaultPrecision(scheme, id, precision)
        for scheme, id, precision in lost
        if refs.default_precision(scheme, id) == precision
    )


def _precision_of(model: StoredModel) -> tuple[str, str, str]:
    return model.manifest.scheme, model.id, model.manifest.precision


def plan_prune(layout: Layout) -> RemovalPlan:
    """A plan for leftovers of killed processes, damaged variants and superseded variants.

    Pinned variants are kept, damaged ones too, since they can be repaired.
    """
    listing = scan(layout)
    leftovers = (*_dead_staging(layout), *_trash(layout), *_orphaned_state(layout))
    removals = (*leftovers, *_damaged(layout, listing), *_superseded(layout, listing))
    kept = {removal.path for removal in removals if removal.kind != "state" and state.is_pinned(removal.path)}
    return RemovalPlan(layout.root, tuple(removal for removal in removals if removal.path not in kept))


def _listing_of(layout: Layout, model: StoredModel) -> Listing:
    return scan(layout, layout.model(model.manifest.scheme, model.id))


def _requested(model: StoredModel) -> Removal:
    reason = "requested, although pinned" if state.is_pinned(model.path) else "requested"
    return Removal(model.path, "requested", str(model.key), reason, files.size_of(model.path))


def _refs_of(refs: Refs, scheme: str, id: str) -> list[RecordedRef]:
    with suppress(ManifestError):
        return refs.of(scheme, id)
    return []


def _commit_of(ref: RecordedRef) -> tuple[str, str, str]:
    return ref.scheme, ref.id, ref.commit


def _dead_staging(layout: Layout) -> Iterator[Removal]:
    for folder in _folders(layout.staging):
        with locks.try_hold(lock_of(folder)) as held:
            if held and not folder.exists():  # its pull has just ended
                drop_lock(folder)
            elif held:
                reason = "its pull ended before it was complete"
                yield Removal(folder, "staging", f"staging {folder.name}", reason, files.size_of(folder))


def _trash(layout: Layout) -> Iterator[Removal]:
    for folder in _folders(layout.trash):
        yield Removal(folder, "trash", f"trash {folder.name}", "removed, not deleted yet", files.size_of(folder))


def _orphaned_state(layout: Layout) -> Iterator[Removal]:
    for variant in state.orphaned(layout.models.glob("*/*/*")):
        title = variant.relative_to(layout.models).as_posix()
        yield Removal(variant, "state", title, "state of a removed variant", state.size_of(variant))


def _damaged(layout: Layout, listing: Listing) -> Iterator[Removal]:
    for damaged in listing.damaged:
        inside = damaged.path.relative_to(layout.models)
        if len(inside.parts) == DEPTH:  # otherwise a folder of several variants that cannot be read
            yield Removal(damaged.path, "damaged", inside.as_posix(), damaged.message, files.size_of(damaged.path))


def _superseded(layout: Layout, listing: Listing) -> Iterator[Removal]:
    for model in listing.models:
        if _is_superseded(model, Refs(layout), listing):
            reason = "its branch or tag is at another stored commit now"
            yield Removal(model.path, "superseded", str(model.key), reason, files.size_of(model.path))


def _is_superseded(model: StoredModel, refs: Refs, listing: Listing) -> bool:
    """Whether no record resolves to the variant, and one of its model resolved to another stored commit later.

    Variants are kept if their pull has not recorded a name yet, and if their model has no records or one that cannot
    be read: nothing shows then that another commit replaced them.
    """
    try:
        recorded = refs.of(model.manifest.scheme, model.id)
    except ManifestError:
        return False
    if any(ref.commit == model.commit for ref in recorded):
        return False
    stored = {(other.manifest.scheme, other.id, other.commit) for other in listing.models}
    created = model.manifest.created
    return any(_commit_of(ref) in stored and _is_later(ref.recorded, created) for ref in recorded)


def _is_later(first: str, second: str) -> bool:
    """Compare two ISO 8601 times; False if one of them is invalid."""
    try:
        return _moment(first) > _moment(second)
    except ValueError:
        return False


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(entry for entry in parent.iterdir() if entry.is_dir() and not entry.is_symlink())
    except FileNotFoundError:
        return []
