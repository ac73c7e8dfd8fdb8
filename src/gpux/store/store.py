"""The store: find, commit, lock, verify and remove runnable variants under one folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path

from gpux.errors import NotStoredError, StorageError
from gpux.model.reference import ModelRef
from gpux.model.variant import StoredModel, VariantKey
from gpux.store import state
from gpux.store.layout import Layout
from gpux.store.listing import DamagedVariant, choose, not_stored, scan
from gpux.store.refs import Refs
from gpux.store.removal import RemovalPlan, plan_eviction, plan_prune, plan_removal
from gpux.store.restore import restore
from gpux.store.staging import Staging, open_staging
from gpux.store.verify import VerifyReport, verify, verify_all
from gpux.system import files, locks
from gpux.system.cancel import CancelToken
from gpux.system.disk import disk_errors, format_bytes, make_cache_folder
from gpux.system.progress import ProgressCallback

_PREFIX = re.compile(r"[0-9a-f]{7,39}")


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
        return choose(stored, task, precision)

    def find_ref(self, ref: ModelRef, *, task: str | None = None, precision: str | None = None) -> StoredModel | None:
        """The variant that a reference leads to, from what earlier pulls recorded and without network, or None.

        An alias, a branch and a tag lead where they led at the last pull; a commit may be given by an unambiguous
        beginning of seven digits or more.
        """
        resolved = self.resolve_ref(ref)
        if resolved is None:
            return None
        return self.find(ref.scheme, *resolved, task=task, precision=precision)

    def matching(self, ref: ModelRef, *, task: str | None = None) -> list[StoredModel]:
        """Every variant that the reference covers: of one commit where it names a revision, else of all.

        Raises:
            NotStoredError: there is none; as :meth:`get` says.
        """
        first = self.get(ref, task=task)
        under = self._layout.model(ref.scheme, first.id)
        stored = scan(self._layout, under).models
        at = None if ref.revision is None else first.commit
        return [model for model in stored if at in (None, model.commit) and task in (None, model.task)]

    def get(self, ref: ModelRef, *, task: str | None = None, precision: str | None = None) -> StoredModel:
        """As :meth:`find_ref`.

        Raises:
            NotStoredError: nothing fits; the message tells what is stored of this model, ``details["near"]`` and the
                hint name stored models of similar names.
        """
        found = self.find_ref(ref, task=task, precision=precision)
        if found is None:
            raise not_stored(ref, self._refs.canonical_id(ref.scheme, ref.id), self.models(), task, precision)
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

    def canonical_id(self, scheme: str, id: str) -> str:
        """What an id stands for, as far as a pull recorded it; itself else."""
        return self._refs.canonical_id(scheme, id)

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

    def verify_all(
        self,
        models: Sequence[StoredModel],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> list[VerifyReport]:
        """As :meth:`verify`, of many at once, their files hashed in parallel.

        Raises:
            CancelledError: ``cancel`` was set.
        """
        return verify_all(models, progress=progress, cancel=cancel)

    def restore(
        self,
        model: StoredModel,
        sources: Mapping[str, Path],
        extra: Iterable[str] = (),
        *,
        cancel: CancelToken | None = None,
    ) -> tuple[str, ...]:
        """Replace files of a variant by copies that are what its manifest promises; returns the names replaced.

        Raises:
            NotWritableError: the store's folder refuses.
            DiskFullError: no room for a copy.
            CancelledError: ``cancel`` was set; each file is the old one or the new one.
        """
        return restore(self._layout, model, sources, extra, cancel=cancel)

    def touch(self, model: StoredModel) -> None:
        """Record that the variant is used now; cheap, and silent where the store cannot be written."""
        state.touch(model)

    def last_used(self, model: StoredModel) -> datetime:
        """When the variant was last used, or else made; in UTC."""
        return state.last_used(model)

    def pin(self, model: StoredModel) -> None:
        """Keep the variant from being evicted or pruned.

        Raises:
            NotStoredError: it is not there any more.
            NotWritableError: the store's folder refuses.
        """
        if not model.path.is_dir():
            raise NotStoredError(f"{model.path} is not in the store at {self.root}", path=str(model.path))
        with disk_errors(self.root):
            state.pin(model)

    def unpin(self, model: StoredModel) -> None:
        """End :meth:`pin`; it need not be pinned.

        Raises:
            NotWritableError: the store's folder refuses.
        """
        with disk_errors(self.root):
            state.unpin(model)

    def pinned(self, model: StoredModel) -> bool:
        """Is it kept from being evicted and pruned."""
        return state.is_pinned(model.path)

    def busy(self, scheme: str, id: str) -> bool:
        """Is a variant of the model being made or removed at this moment, by any process.

        Raises:
            NotWritableError: the store's folder refuses lock files.
        """
        return any(not free for free in map(_is_free, self._layout.locks_of(scheme, id)))

    def key_of(self, folder: Path) -> VariantKey | None:
        """The key of the variant in a folder, from the folder's path; None where the path holds a hashed name.

        For damaged variants, whose manifest cannot be read.
        """
        return self._layout.key_of(folder)

    def eviction_plan(self, limit_bytes: int, keep: Iterable[StoredModel] = ()) -> RemovalPlan:
        """What goes so that the variants fit into ``limit_bytes``: the least recently used first.

        Pinned ones, those in ``keep`` and, when executed, those in use stay: what is left may be larger all the same.
        """
        return plan_eviction(self._layout, limit_bytes, keep)

    def keep_within(self, limit_bytes: int, keep: Iterable[StoredModel], say: Callable[[str], None]) -> int:
        """Evict the least recently used variants until the rest fits into ``limit_bytes``; returns the bytes freed.

        Pinned variants, those in ``keep`` and those in use stay. ``say`` is called with a message for each evicted
        variant, for an error of the disk, which is not raised, and if the rest is still larger than the limit.
        """
        plan = self.eviction_plan(limit_bytes, keep)
        freed = 0
        try:
            freed = plan.execute() if plan.removals else 0
        except StorageError as exc:
            say(f"nothing more could be evicted: {exc.message}")
        for removal in plan.removals:
            if not removal.path.exists():
                say(f"evicted {removal.title}, {format_bytes(removal.size)}: {removal.reason}")
        left = sum(files.size_of(model.path) for model in self.models())
        if left > limit_bytes:
            over = f"the store holds {format_bytes(left)}, more than the {format_bytes(limit_bytes)} that it may"
            say(f"{over}: what is left is pinned, in use or new")
        return freed

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


def _is_free(lock: Path) -> bool:
    with locks.try_hold(lock) as held:
        return held
