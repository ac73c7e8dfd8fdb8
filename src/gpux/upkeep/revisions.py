"""The branches, tags and pull requests by which stored models were pulled, from the store's records alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gpux.errors import GpuxError, ManifestError
from gpux.model.info import ModelInfo
from gpux.model.reference import ModelRef
from gpux.model.variant import StoredModel
from gpux.store import Store
from gpux.store.layout import Layout
from gpux.store.refs import RecordedRef, Refs

LOCAL = "local"  #: the scheme of folders, which have no branches: every pull reads their files
DEFAULT_BRANCH = {"hf": "main"}  # scheme -> the name of the branch that a reference without a revision means

Answer = ModelInfo | GpuxError  #: what a source reports for a revision


@dataclass(frozen=True)
class PulledRevision:
    """A revision of a model, and the stored commit that it led to at the last pull."""

    ref: ModelRef
    commit: str
    variants: tuple[StoredModel, ...]
    answer: Answer | None = None  #: the source's, where it is known without a request

    @property
    def key(self) -> tuple[str, str, str | None]:
        """What is requested from the source: the same for the default branch with and without its name."""
        return self.ref.scheme, self.ref.id, self.ref.revision or DEFAULT_BRANCH.get(self.ref.scheme)


def pulled_revisions(store: Store, precision: str | None = None) -> list[PulledRevision]:
    """The revisions of all stored models except local ones; with a precision, of the variants in it."""
    variants: dict[tuple[str, str], list[StoredModel]] = {}
    for model in store.models():
        if model.manifest.scheme != LOCAL and precision in (None, model.manifest.precision):
            variants.setdefault((model.manifest.scheme, model.id), []).append(model)
    return [revision for (scheme, id), own in variants.items() for revision in _recorded(store, scheme, id, own)]


def revisions_of(store: Store, refs: Iterable[ModelRef]) -> list[PulledRevision]:
    """The revisions that references name, each once; of a model that was pulled by commit, the commit.

    The variants of a reference with a precision are those in it.

    Raises:
        NotStoredError: no variant is stored for one of them.
    """
    found: dict[tuple[object, ...], PulledRevision] = {}
    for ref in refs:
        variants = _variants(store, ref)
        revisions = _recorded(store, ref.scheme, variants[0].id, variants)
        if ref.revision is not None:
            wanted = PulledRevision(ModelRef(ref.scheme, variants[0].id, ref.revision), "", ())
            revisions = [revision for revision in revisions if revision.key == wanted.key or revision.answer]
        for revision in revisions or _by_commit_alone(variants):
            key = revision.key, revision.commit
            found[key] = _joined(found[key], revision) if key in found else revision
    return list(found.values())


def _joined(one: PulledRevision, other: PulledRevision) -> PulledRevision:
    """One revision with the variants of both: references may name several precisions of a model."""
    variants = {model.path: model for model in (*one.variants, *other.variants)}
    return replace(other, variants=tuple(variants.values()))


def _variants(store: Store, ref: ModelRef) -> list[StoredModel]:
    """All variants of a model, by any id that it was pulled by; with a revision, those of its commit."""
    if ref.revision is None:
        wanted = ref.scheme, store.canonical_id(ref.scheme, ref.id)
        found = [model for model in store.models() if (model.manifest.scheme, model.id) == wanted]
        found = [model for model in found if ref.precision in (None, model.manifest.precision)]
        if found:
            return found
    return store.matching(ref)


def _recorded(store: Store, scheme: str, id: str, variants: list[StoredModel]) -> list[PulledRevision]:
    """The recorded branches, tags and pull requests of a model that lead to one of these variants."""
    if store.canonical_id(scheme, id) != id:
        return []  # it was pulled under its new id since then, whose revisions are recorded
    by_commit = _by_commit(variants)
    try:
        recorded = Refs(Layout(store.root)).of(scheme, id)
    except ManifestError as exc:
        return [PulledRevision(ModelRef(scheme, id), variants[-1].commit, tuple(variants), exc)]
    found = [
        PulledRevision(ModelRef(scheme, id, ref.revision), ref.commit, tuple(by_commit[ref.commit]))
        for ref in recorded
        if ref.commit in by_commit and not _is_commit(ref)
    ]
    default = {(one.key, one.commit) for one in found if one.ref.revision is None}
    return [one for one in found if one.ref.revision is None or (one.key, one.commit) not in default]


def _is_commit(ref: RecordedRef) -> bool:
    """True for a pull by commit, in full or abbreviated."""
    return ref.revision is not None and len(ref.revision) >= 7 and ref.commit.startswith(ref.revision)


def _by_commit_alone(variants: Iterable[StoredModel]) -> list[PulledRevision]:
    """The commits of variants to which no branch or tag leads; they are current by definition."""
    found = []
    for commit, own in _by_commit(variants).items():
        scheme, id = own[0].manifest.scheme, own[0].id
        answer = ModelInfo(scheme, id, id, commit)
        found.append(PulledRevision(ModelRef(scheme, id, commit), commit, tuple(own), answer))
    return found


def _by_commit(variants: Iterable[StoredModel]) -> dict[str, list[StoredModel]]:
    found: dict[str, list[StoredModel]] = {}
    for model in variants:
        found.setdefault(model.commit, []).append(model)
    return found
