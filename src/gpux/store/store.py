"""The store: find, commit, lock, verify and remove runnable variants under one folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from gpux.errors import NotStoredError, StorageError, UsageError
from gpux.model.precisions import AUTO
from gpux.model.reference import ModelRef
from gpux.model.units import format_bytes
from gpux.model.variant import StoredModel, VariantKey
from gpux.store import state
from gpux.store.layout import Layout
from gpux.store.listing import DamagedVariant, choose, choose_default, not_stored, scan
from gpux.store.refs import Refs
from gpux.store.removal import RemovalPlan, plan_eviction, plan_prune, plan_removal
from gpux.store.restore import restore
from gpux.store.staging import Staging, open_staging
from gpux.store.verify import VerifyReport, verify, verify_all
from gpux.system import files, locks
from gpux.system.cancel import CancelToken
from gpux.system.disk import disk_errors, make_cache_folder
from gpux.system.progress import ProgressCallback

_PREFIX = re.compile(r"[0-9a-f]{7,39}")


class Store:
    """Runnable variants under ``root``, which need not exist yet; usually ``Settings.store``.

    A store holds no state in memory: any number of threads and processes may use the same folder, and a store can be
    pickled. Reading writes nothing, so that a read-only folder can be used.
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
        """All variants with a readable manifest, in the order of scheme, id, commit and task."""
        return list(scan(self._layout).models)

    def damaged(self) -> list[DamagedVariant]:
        """All folders of variants that :meth:`models` omits, each with the reason."""
        return list(scan(self._layout).damaged)

    def find(
        self, scheme: str, id: str, commit: str, *, task: str | None = None, precision: str | None = None
    ) -> StoredModel | None:
        """The variant of a canonical id at a full commit, or None.

        Of several, the one for the model's own task, then of the highest precision, the best proof, the newest.
        """
        stored = scan(self._layout, self._layout.commit(scheme, id, commit)).models
        return choose(stored, task, precision)

    def find_ref(self, ref: ModelRef, *, task: str | None = None, precision: str | None = None) -> StoredModel | None:
        """The variant that a reference stands for, by the records of earlier pulls, without network; or None.

        Aliases, branches and tags stand for what they resolved to at the last pull; a commit may be given by an
        unambiguous prefix of at least seven digits. Without a precision, and with ``auto``, a reference stands for the
        precision of :meth:`choose_precision` if that is stored for the task, else for the highest one that is stored.

        Raises:
            UsageError: ``precision`` differs from the one of the reference.
        """
        resolved = self.resolve_ref(ref)
        wanted = ref.in_precision(precision).precision
        if resolved is None:
            return None
        if wanted not in (None, AUTO):
            return self.find(ref.scheme, *resolved, task=task, precision=wanted)
        chosen = self._refs.default_precision(ref.scheme, resolved[0])
        stored = scan(self._layout, self._layout.commit(ref.scheme, *resolved)).models
        return choose_default(stored, task, chosen)

    def matching(self, ref: ModelRef, *, task: str | None = None, precision: str | None = None) -> list[StoredModel]:
        """All variants of the reference: of one commit if it names a revision, otherwise of all commits.

        A precision, in the reference or as an argument, limits them to the variants in that precision.

        Raises:
            NotStoredError: no variant is stored; see :meth:`get`.
            UsageError: the precision is ``auto``, or the two precisions differ.
        """
        wanted = ref.in_precision(precision).precision
        if wanted == AUTO:
            raise UsageError(f"{ref}: auto names no stored variant", hint="`gpux list` shows the stored precisions.")
        first = self.get(ref.bare, task=task)
        under = self._layout.model(ref.scheme, first.id)
        stored = scan(self._layout, under).models
        at = None if ref.revision is None else first.commit
        found = [model for model in stored if at in (None, model.commit) and task in (None, model.task)]
        found = [model for model in found if wanted in (None, model.manifest.precision)]
        if not found:
            raise not_stored(ref, first.id, stored, task, wanted)
        return found

    def defaults(self, models: Iterable[StoredModel]) -> set[Path]:
        """The folders of those variants that a reference with the model's name alone stands for."""
        by_id: dict[tuple[str, str], list[StoredModel]] = {}
        for model in models:
            by_id.setdefault((model.manifest.scheme, model.id), []).append(model)
        found = set()
        for (scheme, id), own in by_id.items():
            _, commit = self.resolve_ref(ModelRef(scheme, id)) or (id, None)
            at_commit = [model for model in own if model.commit == commit]
            chosen = choose_default(at_commit, None, self._refs.default_precision(scheme, id))
            found |= {chosen.path} if chosen is not None else set()
        return found

    def default_precision(self, ref: ModelRef) -> str | None:
        """The precision that the user chose for references to the model without one; None without a choice."""
        return self._refs.default_precision(ref.scheme, self._refs.canonical_id(ref.scheme, ref.id))

    def choose_precision(self, ref: ModelRef, precision: str | None) -> None:
        """Let references to the model without a precision stand for this one, at every revision; None ends that.

        The choice is kept when the model is updated or evicted, and ends when its last variant in the precision is
        removed.

        Raises:
            NotStoredError: no variant of the model has the precision.
            UsageError: the precision is unknown or ``auto``.
            NotWritableError: the store is not writable.
        """
        if precision is not None:
            precision = self.matching(replace(ref, revision=None, precision=precision))[0].manifest.precision
        self._refs.choose_precision(ref.scheme, self._refs.canonical_id(ref.scheme, ref.id), precision)

    def get(self, ref: ModelRef, *, task: str | None = None, precision: str | None = None) -> StoredModel:
        """As :meth:`find_ref`, with an error in place of None.

        Raises:
            NotStoredError: no such variant; the message lists the stored variants of the model, ``details["near"]`` and
                the hint name stored models with similar ids.
        """
        found = self.find_ref(ref, task=task, precision=precision)
        if found is None:
            precision = ref.precision or precision
            raise not_stored(ref, self._refs.canonical_id(ref.scheme, ref.id), self.models(), task, precision)
        return found

    def record_ref(self, scheme: str, requested_id: str, id: str, revision: str | None, commit: str) -> None:
        """Record that ``requested_id`` stands for ``id``, and ``revision`` (None: the default branch) for ``commit``.

        Call this after the variant is committed: variants that no record resolves to count as superseded. For a pull
        by commit, the revision is that commit.

        Raises:
            NotWritableError: the store is not writable.
            DiskFullError: no space for the record.
        """
        self._refs.record(scheme, requested_id, id, revision, commit)

    def resolve_ref(self, ref: ModelRef) -> tuple[str, str] | None:
        """Canonical id and commit of a reference, without network; None if no record resolves it.

        A full commit hash needs no record, and its variants need not be stored.
        """
        id, commit = self._refs.resolve(ref)
        if commit is None and ref.revision is not None and _PREFIX.fullmatch(ref.revision):
            commit = self._commit_with_prefix(ref.scheme, id, ref.revision)
        return (id, commit) if commit is not None else None

    def canonical_id(self, scheme: str, id: str) -> str:
        """The canonical id that a pull recorded for an id; the id itself without a record."""
        return self._refs.canonical_id(scheme, id)

    def staging(self) -> AbstractContextManager[Staging]:
        """Two empty folders, for the files of a new variant and for temporary files; see :class:`Staging`.

        Both are deleted when the context ends without ``commit``.

        Raises:
            NotWritableError: the store is not writable.
            DiskFullError: no space for a folder.
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
        """Exclude other processes and threads from the same conversion; ``on_wait`` is called once before waiting.

        Not reentrant. The operating system releases the lock when its process dies.

        Raises:
            CancelledError: ``cancel`` was set while waiting.
            NotWritableError: the store is not writable.
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
        """Compare the files of a variant with its manifest, without network; without ``hashes`` only names and sizes.

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
        """As :meth:`verify` for several variants, whose files are hashed in parallel.

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
        """Replace files of a variant by copies that match its manifest, and delete the files in ``extra``.

        Returns:
            The names that were replaced; sources that do not match the manifest are skipped.

        Raises:
            NotWritableError: the store is not writable.
            DiskFullError: no space for a copy.
            CancelledError: ``cancel`` was set; each file is the old one or the new one.
        """
        return restore(self._layout, model, sources, extra, cancel=cancel)

    def touch(self, model: StoredModel) -> None:
        """Record that the variant is used now; does nothing in a store that is not writable."""
        state.touch(model)

    def last_used(self, model: StoredModel) -> datetime:
        """When the variant was last used, or created; in UTC."""
        return state.last_used(model)

    def pin(self, model: StoredModel) -> None:
        """Keep the variant from being evicted or pruned.

        Raises:
            NotStoredError: the variant was removed.
            NotWritableError: the store is not writable.
        """
        if not model.path.is_dir():
            raise NotStoredError(f"{model.path} is not in the store at {self.root}", path=str(model.path))
        with disk_errors(self.root):
            state.pin(model)

    def unpin(self, model: StoredModel) -> None:
        """Allow the variant to be evicted and pruned again; it need not be pinned.

        Raises:
            NotWritableError: the store is not writable.
        """
        with disk_errors(self.root):
            state.unpin(model)

    def pinned(self, model: StoredModel) -> bool:
        """Whether the variant is pinned."""
        return state.is_pinned(model.path)

    def busy(self, scheme: str, id: str) -> bool:
        """Whether any process is building or removing a variant of the model now.

        Raises:
            NotWritableError: lock files cannot be created.
        """
        return any(not free for free in map(_is_free, self._layout.locks_of(scheme, id)))

    def key_of(self, folder: Path) -> VariantKey | None:
        """The key of the variant in a folder, from the folder's path; None where the path holds a hashed name.

        For damaged variants, whose manifest cannot be read.
        """
        return self._layout.key_of(folder)

    def eviction_plan(self, limit_bytes: int, keep: Iterable[StoredModel] = ()) -> RemovalPlan:
        """A plan that evicts the least recently used variants until the rest fits into ``limit_bytes``.

        Pinned variants, those in ``keep`` and, at execution, those in use are kept, so that the rest may be larger.
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
            over = f"the store holds {format_bytes(left)}, more than its limit of {format_bytes(limit_bytes)}"
            say(f"{over}: the rest is pinned, in use or new")
        return freed

    def removal_plan(self, models: Iterable[StoredModel]) -> RemovalPlan:
        """A plan that removes these variants; see :meth:`RemovalPlan.execute`.

        Raises:
            NotStoredError: a variant is not in this store.
        """
        return plan_removal(self._layout, models)

    def prune_plan(self) -> RemovalPlan:
        """A plan that removes leftovers of killed processes, damaged variants and superseded commits.

        A commit is superseded if no record resolves to it, and one resolved to another stored commit later.

        Raises:
            NotWritableError: lock files cannot be created.
        """
        return plan_prune(self._layout)

    def _commit_with_prefix(self, scheme: str, id: str, prefix: str) -> str | None:
        stored = scan(self._layout, self._layout.model(scheme, id)).models
        commits = {model.commit for model in stored if model.commit.startswith(prefix)}
        return commits.pop() if len(commits) == 1 else None


def _is_free(lock: Path) -> bool:
    with locks.try_hold(lock) as held:
        return held
