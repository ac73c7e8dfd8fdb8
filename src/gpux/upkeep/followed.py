"""Which names lead to what is stored: the branches, tags and pull requests that models were pulled by.

From the store's records alone, without asking anyone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gpux.errors import GpuxError, ManifestError
from gpux.model.info import ModelInfo
from gpux.model.reference import ModelRef
from gpux.model.variant import StoredModel
from gpux.store import Store
from gpux.store.layout import Layout
from gpux.store.refs import RecordedRef, Refs

LOCAL = "local"  #: the scheme of folders: every pull looks at their files, and none has branches
DEFAULT_BRANCH = {"hf": "main"}  # scheme -> what its sources call the branch that no revision stands for

Answer = ModelInfo | GpuxError  #: what a source says of a name


@dataclass(frozen=True)
class Followed:
    """A name that leads to a stored commit."""

    ref: ModelRef
    commit: str
    variants: tuple[StoredModel, ...]
    answer: Answer | None = None  #: where it is known without asking

    @property
    def key(self) -> tuple[str, str, str | None]:
        """What is asked for: the same for the default branch and its own name."""
        return self.ref.scheme, self.ref.id, self.ref.revision or DEFAULT_BRANCH.get(self.ref.scheme)


def all_followed(store: Store) -> list[Followed]:
    """The names of all models; of folders of this machine, which have no branches, none."""
    variants: dict[tuple[str, str], list[StoredModel]] = {}
    for model in store.models():
        if model.manifest.scheme != LOCAL:
            variants.setdefault((model.manifest.scheme, model.id), []).append(model)
    return [name for (scheme, id), own in variants.items() for name in _followed(store, scheme, id, own)]


def named(store: Store, refs: Iterable[ModelRef]) -> list[Followed]:
    """What references lead to, each once, in whichever way it is named.

    Raises:
        NotStoredError: one of them leads to nothing.
    """
    found: dict[tuple[object, ...], Followed] = {}
    for ref in refs:
        variants = _variants(store, ref)
        names = _followed(store, ref.scheme, variants[0].id, variants)
        if ref.revision is not None:
            wanted = Followed(ModelRef(ref.scheme, variants[0].id, ref.revision), "", ())
            names = [name for name in names if name.key == wanted.key or name.answer]
        found |= {(name.key, name.commit): name for name in names or _fixed(variants)}
    return list(found.values())


def _variants(store: Store, ref: ModelRef) -> list[StoredModel]:
    """All of a model, by whichever name it was pulled; with a revision, those that it leads to."""
    if ref.revision is None:
        wanted = ref.scheme, store.canonical_id(ref.scheme, ref.id)
        found = [model for model in store.models() if (model.manifest.scheme, model.id) == wanted]
        if found:
            return found
    return store.matching(ref)


def _followed(store: Store, scheme: str, id: str, variants: list[StoredModel]) -> list[Followed]:
    """The names of a model that may move on, as far as they lead to one of these variants."""
    if store.canonical_id(scheme, id) != id:
        return []  # it was pulled under its new name since, which is asked about
    by_commit = _by_commit(variants)
    try:
        recorded = Refs(Layout(store.root)).of(scheme, id)
    except ManifestError as exc:
        return [Followed(ModelRef(scheme, id), variants[-1].commit, tuple(variants), exc)]
    names = [
        Followed(ModelRef(scheme, id, ref.revision), ref.commit, tuple(by_commit[ref.commit]))
        for ref in recorded
        if ref.commit in by_commit and not _is_commit(ref)
    ]
    default = {(name.key, name.commit) for name in names if name.ref.revision is None}
    return [name for name in names if name.ref.revision is None or (name.key, name.commit) not in default]


def _is_commit(ref: RecordedRef) -> bool:
    """Pulled by commit, in full or by its beginning."""
    return ref.revision is not None and len(ref.revision) >= 7 and ref.commit.startswith(ref.revision)


def _fixed(variants: Iterable[StoredModel]) -> list[Followed]:
    """Variants that no moving name leads to: what they were pulled by is what they are."""
    found = []
    for commit, own in _by_commit(variants).items():
        scheme, id = own[0].manifest.scheme, own[0].id
        answer = ModelInfo(scheme, id, id, commit)
        found.append(Followed(ModelRef(scheme, id, commit), commit, tuple(own), answer))
    return found


def _by_commit(variants: Iterable[StoredModel]) -> dict[str, list[StoredModel]]:
    found: dict[str, list[StoredModel]] = {}
    for model in variants:
        found.setdefault(model.commit, []).append(model)
    return found
