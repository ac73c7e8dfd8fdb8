"""What this machine has of which model: variants in the store, and the source files that they were made from.

Here the store and the source cache meet, which do not know each other. Reading writes nothing and asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from gpux.errors import NotStoredError
from gpux.model.reference import ModelRef, Reference
from gpux.model.values import Value
from gpux.model.variant import StoredModel
from gpux.source_cache.scan import CachedRepository, PartialDownload, scan, scan_model, shared_store
from gpux.source_cache.verify import Part, SourceReport, verify_sources
from gpux.store import DamagedVariant, Store, VerifyReport
from gpux.system import tree
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback
from gpux.system.settings import Settings

HUB = "hf"  #: the scheme whose source files the cache keeps


@dataclass(frozen=True)
class Inventory:
    """A part of what is here."""

    variants: tuple[StoredModel, ...] = ()
    damaged: tuple[DamagedVariant, ...] = ()  #: variants whose manifest cannot be read
    sources: tuple[Part, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.variants or self.damaged or self.sources)


@dataclass(frozen=True)
class Usage(Value):
    """What takes how many bytes of the disk."""

    variants: int  #: count
    store: int  #: bytes of the variants
    unfinished: int  #: bytes of variants in the making, and of removed ones that are not deleted yet
    repositories: tuple[CachedRepository, ...]  #: of the source cache, datasets and Spaces too
    shared: int  #: bytes that repositories of the source cache share
    toolchains: int
    logs: int
    max_cache: int | None = None  #: what :attr:`store` may be

    @property
    def source(self) -> int:
        """Bytes of the source cache, partial downloads not included."""
        return sum(repository.size for repository in self.repositories) + self.shared

    @property
    def partials(self) -> tuple[PartialDownload, ...]:
        """Downloads that run, or that ended without finishing, of any tool."""
        return tuple(partial for repository in self.repositories for partial in repository.partials)

    @property
    def total(self) -> int:
        """Bytes of all."""
        own = self.store + self.unfinished + self.toolchains + self.logs
        return own + self.source + sum(partial.size for partial in self.partials)

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-able values, with the sums."""
        sums = {"source": self.source, "partial": sum(partial.size for partial in self.partials), "total": self.total}
        repositories = [repository.to_dict() for repository in self.repositories]
        return {**super().to_dict(), **sums, "repositories": repositories}


@dataclass(frozen=True)
class Health:
    """What :func:`check` found: the reports stand in the order of the inventory."""

    inventory: Inventory
    variants: tuple[VerifyReport, ...]
    sources: tuple[SourceReport, ...]

    @property
    def messages(self) -> list[str]:
        """Every problem, in one line each."""
        found = [f"{report.id}: {problem.message}" for report in self.variants for problem in report.problems]
        found += [damaged.message for damaged in self.inventory.damaged]
        for report in self.sources:
            found += [report.unreadable] if report.unreadable else []
            found += [f"source of {report.id}: {problem.message}" for problem in report.problems]
        return found


def everything(settings: Settings, store: Store | None = None) -> Inventory:
    """All variants of the store, and every model in the source cache, from whichever tool."""
    kept = store or Store(settings.store)
    sources = (Part(found, found.commits) for found in scan(settings.hf_cache) if found.kind == "model")
    return Inventory(tuple(kept.models()), tuple(kept.damaged()), tuple(sources))


def covered(refs: Iterable[Reference], settings: Settings, store: Store | None = None) -> Inventory:
    """What references name: of one commit where they tell a revision, else of all commits.

    Raises:
        NotStoredError: one of them names neither a variant nor source files.
    """
    kept = store or Store(settings.store)
    variants: dict[object, StoredModel] = {}
    damaged: dict[object, DamagedVariant] = {}
    sources: dict[object, Part] = {}
    for ref in map(ModelRef.parse, refs):
        found = _covered_by(ref, settings, kept)
        variants |= {model.path: model for model in found.variants}
        damaged |= {entry.path: entry for entry in found.damaged}
        sources |= {(part.repository.path, part.commits): part for part in found.sources}
    return Inventory(tuple(variants.values()), tuple(damaged.values()), tuple(sources.values()))


def _covered_by(ref: ModelRef, settings: Settings, store: Store) -> Inventory:
    id, commit = store.resolve_ref(ref) or (store.canonical_id(ref.scheme, ref.id), None)
    damaged = tuple(entry for entry in store.damaged() if _is_of(entry, store, ref, id, commit))
    sources = _sources(ref, id, commit, settings)
    try:
        models = tuple(store.matching(ref))
    except NotStoredError:
        if not damaged and not sources:
            raise
        models = ()
    return Inventory(models, damaged, sources)


def _is_of(entry: DamagedVariant, store: Store, ref: ModelRef, id: str, commit: str | None) -> bool:
    key = store.key_of(entry.path)
    if key is None or (key.scheme, key.id) != (ref.scheme, id):
        return False
    return ref.revision is None or key.commit == commit


def _sources(ref: ModelRef, id: str, commit: str | None, settings: Settings) -> tuple[Part, ...]:
    if ref.scheme != HUB:
        return ()
    found = []
    for name in dict.fromkeys((id, ref.id)):  # another tool may have asked for it by an older name
        repository = scan_model(settings.hf_cache, name)
        if repository is not None:
            commits = repository.at(ref.revision and (commit or ref.revision))
            found += [Part(repository, commits)] if commits or _has_content(ref, repository) else []
    return tuple(found)


def _has_content(ref: ModelRef, repository: CachedRepository) -> bool:
    """Without any commit, there may be blobs, partial downloads, or nothing."""
    return ref.revision is None and bool(repository.blobs or repository.partials or repository.problem)


def usage(settings: Settings, store: Store | None = None) -> Usage:
    """Measure everything that gpux keeps, and the source cache with all that other tools keep there."""
    kept = store or Store(settings.store)
    models = kept.models()
    return Usage(
        variants=len(models),
        store=tree.size_of(kept.root / "models"),
        unfinished=tree.size_of(kept.root / "staging") + tree.size_of(kept.root / "trash"),
        repositories=scan(settings.hf_cache),
        shared=tree.size_of(shared_store(settings.hf_cache)),
        toolchains=tree.size_of(settings.toolchains),
        logs=tree.size_of(settings.logs),
        max_cache=settings.max_cache,
    )


def check(
    inventory: Inventory, store: Store, *, progress: ProgressCallback | None = None, cancel: CancelToken | None = None
) -> Health:
    """Hash every file of it, in parallel and offline, and compare with what is recorded.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    sources = verify_sources(inventory.sources, progress=progress, cancel=cancel)
    variants = store.verify_all(inventory.variants, progress=progress, cancel=cancel)
    return Health(inventory, tuple(variants), tuple(sources))


def only(inventory: Inventory, *, variants: bool = True, sources: bool = True) -> Inventory:
    """The inventory without one of its sides."""
    if not variants:
        inventory = replace(inventory, variants=(), damaged=())
    return inventory if sources else replace(inventory, sources=())
