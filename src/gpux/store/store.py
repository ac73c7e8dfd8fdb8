"""The store: find, commit, lock, verify and remove runnable variants under one folder."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from gpux.cancel import CancelToken
from gpux.disk import make_cache_folder
from gpux.errors import NotStoredError
from gpux.progress import ProgressCallback
from gpux.reference import ModelRef
from gpux.store import locks
from gpux.store.layout import Layout
from gpux.store.listing import DamagedVariant, scan
from gpux.store.refs import Refs
from gpux.store.removal import RemovalPlan, plan_prune, plan_removal
from gpux.store.staging import Staging, open_staging
from gpux.store.verify import VerifyReport, verify
from gpux.types import StoredModel

_PREFIX = re.compile(r"[0-9a-f]{7,39}")
#: Which variant is meant where nothing was said: what a plain pull makes comes first.
_PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int4")
_PROOFS = ("proven", "shipped", "inexact")


class Store:
    """Runnable variants under ``root``, which need not exist yet; usually ``Settings.store``.

    It keeps no state of its own: many threads and processes may use the same folder, and a store pickles. Reading
    writes nothing, so a read-only folder can be read.
    """

    def __init__(self, root: Path) -> None:
        self._layout = Layout(Path(root))
        self._refs = Refs(self._layout)

    @property
    def root(self) -> Path:
        """The store's folder."""
        return self._layout.root

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def models(self) -> list[StoredModel]:
        """Every variant with a sound manifest, in the order of scheme, id, commit and task."""
        return list(scan(self._layout).models)

    def damaged(self) -> list[DamagedVariant]:
        """Every folder among the models that :meth:`models` leaves out, and why."""
        return list(scan(self._layout).damaged)

    def find(
        self, scheme: str, id: str, commit: str, *, task: str | None = None, precision: str | None = None
    ) -> StoredModel | None:
        """The variant of a canonical id at a full commit, or None.

        Where several fit: the highest precision, then the best proven, then the newest.
        """
        stored = scan(self._layout, self._layout.commit(scheme, id, commit)).models
        fitting = [model for model in stored if _fits(model, task, precision)]
        return min(sorted(fitting, key=_created, reverse=True), key=_rank, default=None)

    def find_ref(self, ref: ModelRef, *, task: str | None = None, precision: str | None = None) -> StoredModel | None:
        """The variant that a reference leads to, from what earlier pulls recorded and without network, or None.

        An alias, a branch and a tag lead where they led at the last pull; a commit may be given by an unambiguous
        beginning of seven digits or more.
        """
        resolved = self.resolve_ref(ref)
        if resolved is None:
            return None
        return self.find(ref.scheme, *resolved, task=task, precision=precision)

    def get(self, ref: ModelRef, *, task: str | None = None, precision: str | None = None) -> StoredModel:
        """As :meth:`find_ref`.

        Raises:
            NotStoredError: nothing fits; the message tells what is stored of this model, ``details["near"]`` and the
                hint name stored models of similar names.
        """
        found = self.find_ref(ref, task=task, precision=precision)
        if found is None:
            raise self._not_stored(ref, task, precision)
        return found

    def record_ref(self, scheme: str, requested_id: str, id: str, revision: str | None, commit: str) -> None:
        """Record that ``requested_id`` means ``id`` and that its ``revision`` (None: the default branch) is ``commit``.

        Call it after the commit is stored: what no record leads to any more counts as superseded. For a pull by
        commit, the revision is that commit.

        Raises:
            NotWritableError: the store's folder refuses.
            DiskFullError: no room for the record.
        """
        self._refs.record(scheme, requested_id, id, revision, commit)

    def resolve_ref(self, ref: ModelRef) -> tuple[str, str] | None:
        """Canonical id and commit that a reference leads to, without network; None where nothing tells.

        A full commit hash needs no record; its variants need not be stored.
        """
        id, commit = self._refs.resolve(ref)
        if commit is None and ref.revision is not None and _PREFIX.fullmatch(ref.revision):
            commit = self._commit_beginning(ref.scheme, id, ref.revision)
        return (id, commit) if commit is not None else None

    def staging(self) -> AbstractContextManager[Staging]:
        """Two empty folders for a variant in the making and for what is needed on the way; see :class:`Staging`.

        Leaving the context without ``commit`` removes both.

        Raises:
            NotWritableError: the store's folder refuses.
            DiskFullError: no room for a folder.
        """
        return open_staging(self._layout)

    @contextmanager
    def lock(
        self,
        scheme: str,
        id: str,
        commit: str,
        task: str,
        precision: str,
        *,
        cancel: CancelToken | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> Iterator[None]:
        """Keep every other process and thread from converting the same; ``on_wait`` is called once if one does.

        Not reentrant. The system frees it when its holder dies.

        Raises:
            CancelledError: ``cancel`` was set while waiting.
            NotWritableError: the store's folder refuses.
        """
        make_cache_folder(self.root)
        path = self._layout.variant_lock(scheme, id, commit, task, precision)
        with locks.hold(path, cancel=cancel, on_wait=on_wait):
            yield

    def verify(
        self,
        model: StoredModel,
        *,
        hashes: bool = True,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> VerifyReport:
        """Compare a variant's files with its manifest, offline; without ``hashes`` only names and sizes.

        Raises:
            CancelledError: ``cancel`` was set.
        """
        return verify(model, hashes=hashes, progress=progress, cancel=cancel)

    def removal_plan(self, models: Iterable[StoredModel]) -> RemovalPlan:
        """What removing these variants takes away; ``execute()`` does it.

        Raises:
            NotStoredError: one of them is not of this store.
        """
        return plan_removal(self._layout, models)

    def prune_plan(self) -> RemovalPlan:
        """What can go: leavings of killed processes, damaged variants, and commits that no recorded name leads to.

        A commit goes only if a name began to lead to another stored commit after it was made.

        Raises:
            NotWritableError: the store's folder refuses lock files.
        """
        return plan_prune(self._layout)

    def _commit_beginning(self, scheme: str, id: str, prefix: str) -> str | None:
        stored = scan(self._layout, self._layout.model(scheme, id)).models
        commits = {model.commit for model in stored if model.commit.startswith(prefix)}
        return commits.pop() if len(commits) == 1 else None

    def _not_stored(self, ref: ModelRef, task: str | None, precision: str | None) -> NotStoredError:
        models = self.models()
        id = self._refs.canonical_id(ref.scheme, ref.id)
        wanted = ", ".join(part for part in (task, precision) if part)
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


def _rank(model: StoredModel) -> tuple[int, int]:
    precision, status = model.manifest.precision, model.manifest.proof.status
    place = _PRECISIONS.index(precision) if precision in _PRECISIONS else len(_PRECISIONS)
    return place, _PROOFS.index(status)


def _near(name: str, ids: set[str]) -> list[str]:
    """Stored ids that look like the name, in full or without their organisation."""
    low = name.lower()
    by_look = {id.lower(): id for id in ids} | {id.lower().rpartition("/")[2]: id for id in ids}
    found = difflib.get_close_matches(low, by_look, n=3, cutoff=0.6)
    found += difflib.get_close_matches(low.rpartition("/")[2], by_look, n=3, cutoff=0.6)
    return list(dict.fromkeys(by_look[look] for look in found))[:3]
