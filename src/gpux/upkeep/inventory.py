"""What this machine holds of which model: variants in the store, and source files in the source cache.

Reading changes nothing and makes no request.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gpux.errors import NotStoredError
from gpux.model.precisions import known_precision
from gpux.model.reference import ModelRef, Reference
from gpux.model.values import Value
from gpux.model.variant import StoredModel
from gpux.source_cache.scan import CachedRepository, PartialDownload, scan, scan_model, shared_store
from gpux.source_cache.verify import Part, SourceReport, verify_sources
from gpux.store import DamagedVariant, Store, VerifyReport
from gpux.system import files
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback
from gpux.system.progress_argument import callback
from gpux.system.settings import Settings

HUB = "hf"  #: the scheme whose source files are in the source cache


@dataclass(frozen=True)
class Inventory:
    """Variants and source files on this machine, of all models or of some."""

    variants: tuple[StoredModel, ...] = ()
    damaged: tuple[DamagedVariant, ...] = ()  #: variants whose manifest cannot be read
    sources: tuple[Part, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.variants or self.damaged or self.sources)


@dataclass(frozen=True)
class Usage(Value):
    """Disk usage of gpux and of the source cache, in bytes."""

    variants: int  #: number of variants, not bytes
    store: int  #: of the variants
    unfinished: int  #: of variants that are being created, and of removed ones that are not deleted yet
    repositories: tuple[CachedRepository, ...]  #: of the source cache, with datasets and Spaces
    shared: int  #: of files that repositories of the source cache share
    toolchains: int
    logs: int
    max_cache: int | None = None  #: the limit of :attr:`store`

    @property
    def source(self) -> int:
        """Bytes of the source cache without partial downloads."""
        return sum(repository.size for repository in self.repositories) + self.shared

    @property
    def partials(self) -> tuple[PartialDownload, ...]:
        """Downloads of any tool that are running or were interrupted."""
        return tuple(partial for repository in self.repositories for partial in repository.partials)

    @property
    def total(self) -> int:
        """Bytes of everything."""
        own = self.store + self.unfinished + self.toolchains + self.logs
        return own + self.source + sum(partial.size for partial in self.partials)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values, with the sums."""
        sums = {"source": self.source, "partial": sum(partial.size for partial in self.partials), "total": self.total}
        repositories = [repository.to_dict() for repository in self.repositories]
        return {**super().to_dict(), **sums, "repositories": repositories}


@dataclass(frozen=True)
class Health:
    """The result of :func:`verify_models`; the reports are in the order of the inventory."""

    inventory: Inventory
    variants: tuple[VerifyReport, ...]
    sources: tuple[SourceReport, ...]

    @property
    def messages(self) -> list[str]:
        """One line for each problem."""
        found = [f"{report.id}: {problem.message}" for report in self.variants for problem in report.problems]
        found += [damaged.message for damaged in self.inventory.damaged]
        for report in self.sources:
            found += [report.unreadable] if report.unreadable else []
            found += [f"source of {report.id}: {problem.message}" for problem in report.problems]
        return found


def take_inventory(
    refs: Iterable[Reference] | None = None,
    *,
    variants: bool = True,
    sources: bool = True,
    settings: Settings | None = None,
    store: Store | None = None,
) -> Inventory:
    """The variants of the store, and the models in the source cache, downloaded by any tool.

    Args:
        refs: only these: the commit of a reference with a revision, all commits of one without; of a reference with a
            precision, the variants in it and no source files. By default everything.
        variants: False leaves out the variants.
        sources: False leaves out the source files.
        settings: by default the environment's.
        store: by default the one of the settings.

    Raises:
        NotStoredError: there are neither variants nor source files for one of ``refs``.
    """
    settings = settings or Settings.from_env()
    kept = store or Store(settings.store)
    found = _everything(settings, kept) if refs is None else _covered(refs, settings, kept)
    return Inventory(
        found.variants if variants else (), found.damaged if variants else (), found.sources if sources else ()
    )


def _everything(settings: Settings, store: Store) -> Inventory:
    parts = (Part(found, found.commits) for found in scan(settings.hf_cache) if found.kind == "model")
    return Inventory(tuple(store.models()), tuple(store.damaged()), tuple(parts))


def _covered(refs: Iterable[Reference], settings: Settings, store: Store) -> Inventory:
    variants: dict[object, StoredModel] = {}
    damaged: dict[object, DamagedVariant] = {}
    sources: dict[object, Part] = {}
    for ref in map(ModelRef.parse, refs):
        found = _covered_by(ref, settings, store)
        variants |= {model.path: model for model in found.variants}
        damaged |= {entry.path: entry for entry in found.damaged}
        sources |= {(part.repository.path, part.commits): part for part in found.sources}
    return Inventory(tuple(variants.values()), tuple(damaged.values()), tuple(sources.values()))


def _covered_by(ref: ModelRef, settings: Settings, store: Store) -> Inventory:
    id, commit = store.resolve_ref(ref) or (store.canonical_id(ref.scheme, ref.id), None)
    damaged = tuple(entry for entry in store.damaged() if _is_of(entry, store, ref, id, commit))
    sources = _sources(ref, id, commit, settings) if ref.precision is None else ()
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
    if ref.precision not in (None, key.precision):
        return False
    return ref.revision is None or key.commit == commit


def _sources(ref: ModelRef, id: str, commit: str | None, settings: Settings) -> tuple[Part, ...]:
    if ref.scheme != HUB:
        return ()
    found = []
    for name in dict.fromkeys((id, ref.id)):  # another tool may have used an older id
        repository = scan_model(settings.hf_cache, name)
        if repository is not None:
            commits = repository.at(ref.revision and (commit or ref.revision))
            found += [Part(repository, commits)] if commits or _has_content(ref, repository) else []
    return tuple(found)


def _has_content(ref: ModelRef, repository: CachedRepository) -> bool:
    """True if a folder without commits holds blobs or partial downloads, for a reference without a revision."""
    return ref.revision is None and bool(repository.blobs or repository.partials or repository.problem)


def usage(*, settings: Settings | None = None, store: Store | None = None) -> Usage:
    """Measure the disk usage of gpux and of the source cache, with what other tools keep there."""
    settings = settings or Settings.from_env()
    kept = store or Store(settings.store)
    return Usage(
        variants=len(kept.models()),
        store=files.size_of(kept.root / "models"),
        unfinished=files.size_of(kept.root / "staging") + files.size_of(kept.root / "trash"),
        repositories=scan(settings.hf_cache),
        shared=files.size_of(shared_store(settings.hf_cache)),
        toolchains=files.size_of(settings.toolchains),
        logs=files.size_of(settings.logs),
        max_cache=settings.max_cache,
    )


def verify_models(
    refs: Iterable[Reference] | None = None,
    *,
    variants: bool = True,
    sources: bool = True,
    precision: str | None = None,
    settings: Settings | None = None,
    store: Store | None = None,
    progress: ProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
) -> Health:
    """Hash the files on this machine, in parallel and without a request, and compare them with the recorded hashes.

    Variants are compared with their manifests, source files with the hashes in the source cache.

    Args:
        refs: only these; by default everything in the store and in the source cache.
        variants: False leaves out the variants.
        sources: False leaves out the source files.
        precision: only the variants in this precision, and no source files; also as a part of ``refs``.
        settings: by default the environment's.
        store: by default the one of the settings.
        progress: as for :func:`gpux.pull_model`.
        cancel: set it to end the call with ``CancelledError``.

    Raises:
        NotStoredError: there are neither variants nor source files for one of ``refs``.
        CancelledError: ``cancel`` was set.
    """
    settings = settings or Settings.from_env()
    kept, report = store or Store(settings.store), callback(progress)
    found = _in_precision(refs, variants, sources, precision, settings, kept)
    checked = verify_sources(found.sources, progress=report, cancel=cancel)
    return Health(found, tuple(kept.verify_all(found.variants, progress=report, cancel=cancel)), tuple(checked))


def _in_precision(
    refs: Iterable[Reference] | None,
    variants: bool,
    sources: bool,
    precision: str | None,
    settings: Settings,
    store: Store,
) -> Inventory:
    wanted = None if refs is None else [ModelRef.parse(ref).in_precision(precision) for ref in refs]
    found = take_inventory(wanted, variants=variants, sources=sources, settings=settings, store=store)
    if precision is None or wanted is not None:
        return found
    name = known_precision(precision)
    keys = {entry.path: store.key_of(entry.path) for entry in found.damaged}
    return Inventory(
        tuple(model for model in found.variants if model.manifest.precision == name),
        tuple(entry for entry in found.damaged if (key := keys[entry.path]) is not None and key.precision == name),
    )
