"""The names of the stored models: what a request may call a model, and the list of all of them.

The store's manifests are read once and then again where a folder has changed, so that a look-up costs microseconds and
sees what another process pulled or removed.
"""

from __future__ import annotations

import difflib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from gpux.errors import CorruptFileError, GpuxError, InvalidReferenceError, ModelNotFoundError, UnsupportedTaskError
from gpux.model.precisions import AUTO, preference
from gpux.model.reference import ModelRef
from gpux.model.tasks import canonical
from gpux.model.variant import StoredModel
from gpux.store import Store
from gpux.store.layout import Layout
from gpux.store.listing import DamagedVariant, choose, choose_default, folders_named, scan

#: Seconds in which the store is taken to be unchanged, unless a name is not found.
FRESH = 0.5
#: Nanoseconds in which a folder may change again without another modification time.
CLOCK = 50_000_000
LONGEST_NAME = 300  #: characters of a name that is compared with the stored ones


@dataclass(frozen=True)
class Listed:
    """A stored model in one precision."""

    name: str  #: shortest name: ``org/name``, ``org/name:int4``, ``org/name@revision``; of a local model, its folder's
    id: str  #: canonical id; of a local model the path
    task: str  #: canonical name
    precision: str
    bytes: int  #: of all files
    created: int  #: seconds since the epoch; 0: unknown
    default: bool  #: ``id`` alone stands for it
    revision: str | None  #: that the name contains; None: that of the id alone
    model: StoredModel


@dataclass(frozen=True)
class _Folder:
    """A folder of the store as it was read."""

    changed: int  #: modification time in nanoseconds
    names: tuple[str, ...] = ()
    models: tuple[StoredModel, ...] = ()
    damaged: tuple[DamagedVariant, ...] = ()


class Names:
    """Finds stored variants by name; safe to use from many threads.

    Args:
        root: of the store, which need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self._store = Store(root)
        self._layout = Layout(root)
        self._folders: dict[str, _Folder] = {}
        self._commits: list[_Folder] = []
        self._checked = float("-inf")
        self._lock = threading.RLock()
        self._listing: tuple[Listed, ...] | None = None
        self._found: dict[tuple[str, tuple[str, ...]], StoredModel] = {}
        self.generation = 0  #: grows with each change of the store

    def models(self) -> list[StoredModel]:
        """Every readable variant."""
        with self._lock:
            self._refresh()
            return self._models_read()

    def damaged(self) -> list[DamagedVariant]:
        """Every variant that cannot be read, with the reason."""
        with self._lock:
            self._refresh()
            return [damaged for folder in self._commits for damaged in folder.damaged]

    def listing(self) -> tuple[Listed, ...]:
        """One entry for each id, revision and precision, in the order of names, the default of each id first."""
        with self._lock:
            self._refresh()
            if self._listing is None:
                self._listing = tuple(self._list())
            return self._listing

    def refresh(self) -> None:
        """Read the store now, after a change by this process."""
        with self._lock:
            self._refresh(force=True)

    def name_of(self, model: StoredModel) -> str:
        """The shortest name of a variant."""
        for listed in self.listing():
            if listed.model.path == model.path:
                return listed.name
        return f"{self._short_id(model)}:{model.manifest.precision}"

    def find(self, name: str, tasks: Sequence[str] = ()) -> StoredModel:
        """The stored variant that a name stands for.

        Args:
            name: a reference in any form; the folder's name of a local model, if only one has it; ``:latest`` stands
                for the default.
            tasks: tasks that the caller can use; empty: any.

        Raises:
            ModelNotFoundError: nothing is stored by this name; ``details["near"]`` has similar names.
            UnsupportedTaskError: it is stored for other tasks only.
            CorruptFileError: it is stored, and damaged.
        """
        with self._lock:
            self._refresh()
            key = (name, tuple(tasks))
            if (known := self._found.get(key)) is not None:
                return known
            found = self._find(name, tasks)
            if found is None:
                self._refresh(force=True)
                found = self._find(name, tasks)
            if found is None:
                raise self._missing(name)
            if len(self._found) > 10_000:
                self._found.clear()
            self._found[key] = found
            return found

    def listed(self, name: str) -> Listed:
        """The entry of the list for the variant that a name stands for.

        Raises:
            ModelNotFoundError, CorruptFileError: see :meth:`find`.
        """
        with self._lock:
            found = self.find(name)
            entry = next((one for one in self.listing() if one.model.path == found.path), None)
            return entry or _listed(self.name_of(found), found, False, None)  # it has just been replaced or removed

    def get(self, name: str) -> StoredModel | None:
        """The stored variant that a name stands for, where :meth:`find` would give one; cheap for unknown names."""
        with self._lock:
            self._refresh()
            if (known := self._found.get((name, ()))) is not None:
                return known
            try:
                return self._find(name, ())
            except GpuxError:  # it is damaged
                return None

    def _find(self, name: str, tasks: Sequence[str]) -> StoredModel | None:
        try:
            ref = ModelRef.parse(name)
        except InvalidReferenceError:
            return None
        if ref.file is not None or ref.endpoint is not None:
            return None
        for one in self._readings(ref):
            resolved = self._store.resolve_ref(one)
            if resolved is None:
                continue
            models = self._at(one.scheme, *resolved)
            precision = None if one.precision == AUTO else one.precision
            fitting = [model for model in models if precision in (None, model.manifest.precision)]
            if fitting:
                return self._of_task(name, fitting, one, tasks)
            self._raise_if_damaged(name, one, *resolved)
        return None

    def _readings(self, ref: ModelRef) -> Iterator[ModelRef]:
        """The reference, then the local model whose folder has the name."""
        yield ref
        named = folders_named(ref, self._models_read())
        if len(named) == 1:
            yield replace(ref, scheme="local", id=named[0])

    def _of_task(self, name: str, models: list[StoredModel], ref: ModelRef, tasks: Sequence[str]) -> StoredModel:
        wanted = {canonical(task) for task in tasks}
        fitting = [model for model in models if not wanted or canonical(model.task) in wanted]
        chosen = self._store.default_precision(ref) if ref.precision in (None, AUTO) else None
        found = choose_default(fitting, None, chosen)
        if found is not None:
            return found
        stored = " and ".join(sorted({model.task for model in models}))
        raise UnsupportedTaskError(
            f"the model {name!r} is stored for {stored}, and this request needs {' or '.join(tasks)}",
            hint=f"Name a model of that task, or send what {stored} takes to /models/{name}.",
            model=name,
            task=stored,
        )

    def _raise_if_damaged(self, name: str, ref: ModelRef, id: str, commit: str) -> None:
        under = self._layout.commit(ref.scheme, id, commit)
        for folder in self._commits:
            for damaged in folder.damaged:
                if damaged.path.parent == under or damaged.path == under:
                    raise CorruptFileError(
                        f"the stored model {name!r} is damaged",
                        hint=f"Run `gpux verify {name} --repair` on the server's machine.",
                        model=name,
                    )

    def _at(self, scheme: str, id: str, commit: str) -> tuple[StoredModel, ...]:
        folder = self._folders.get(str(self._layout.commit(scheme, id, commit)))
        return folder.models if folder is not None else ()

    def _missing(self, name: str) -> ModelNotFoundError:
        near = self._near(name[:LONGEST_NAME])
        hint = f"Did you mean {' or '.join(near)}? " if near else ""
        try:
            ref = ModelRef.parse(name)
        except InvalidReferenceError:
            hint += "The list of models shows the names."
        else:
            if len(folders := folders_named(ref, self._models_read())) > 1:
                return ModelNotFoundError(
                    f"{len(folders)} stored models are in folders that are named {ref.id!r}",
                    hint="Name one by its path, as the list of models has it.",
                    model=name,
                    near=folders,
                )
            hint += f"`gpux pull {ref}` stores it"
            hint += ", and so does a server that runs with --allow-pull." if ref.scheme == "hf" else "."
        return ModelNotFoundError(
            f"the model {name[:LONGEST_NAME]!r} is not stored on this server",
            hint=hint,
            model=name[:LONGEST_NAME],
            near=near,
        )

    def _near(self, name: str) -> list[str]:
        low = name.lower().removeprefix("hf:")
        spellings = {listed.name.lower(): listed.name for listed in self.listing()}
        spellings |= {spelling.rpartition("/")[2]: found for spelling, found in spellings.items()}
        found = difflib.get_close_matches(low, spellings, n=3, cutoff=0.6)
        found += difflib.get_close_matches(low.rpartition("/")[2], spellings, n=3, cutoff=0.6)
        return list(dict.fromkeys(spellings[one] for one in found))[:3]

    def _list(self) -> Iterator[Listed]:
        by_id: dict[tuple[str, str], list[StoredModel]] = {}
        for model in self._models_read():
            by_id.setdefault((model.manifest.scheme, model.id), []).append(model)
        short = self._short_ids(by_id)
        found = []
        for (scheme, id), models in by_id.items():
            _, default = self._store.resolve_ref(ModelRef(scheme, id)) or (id, None)
            chosen = self._store.default_precision(ModelRef(scheme, id))
            by_commit: dict[str, list[StoredModel]] = {}
            for model in models:
                by_commit.setdefault(model.commit, []).append(model)
            for commit, stored in by_commit.items():
                revision = None if commit == default else commit[:12]
                first = choose_default(stored, None, chosen)
                for precision in sorted({model.manifest.precision for model in stored}, key=preference):
                    best = choose(stored, None, precision)
                    assert best is not None
                    bare = short[scheme, id] + (f"@{revision}" if revision else "")
                    own = first is not None and first.manifest.precision == precision
                    name = bare if own else f"{bare}:{precision}"
                    found.append(_listed(name, best, own and revision is None, revision))
        yield from sorted(found, key=lambda one: (short[one.model.manifest.scheme, one.id], not one.default, one.name))

    @staticmethod
    def _short_ids(keys: dict[tuple[str, str], list[StoredModel]]) -> dict[tuple[str, str], str]:
        """The shortest name of each id: a local model has that of its folder where no other model has it."""
        folders = [Path(id).name for scheme, id in keys if scheme == "local"]
        taken = {id for scheme, id in keys if scheme == "hf"}
        short = {}
        for scheme, id in keys:
            folder = Path(id).name
            if scheme == "local" and folders.count(folder) == 1 and folder not in taken and _is_name(folder):
                short[scheme, id] = folder
            else:
                short[scheme, id] = str(ModelRef(scheme, id))
        return short

    def _short_id(self, model: StoredModel) -> str:
        return str(ModelRef(model.manifest.scheme, model.id))

    def _models_read(self) -> list[StoredModel]:
        return [model for folder in self._commits for model in folder.models]

    def _refresh(self, *, force: bool = False) -> None:
        """Read what has changed in the store."""
        now = time.monotonic()
        if not force and now - self._checked < FRESH:
            return
        old = self._folders
        new: dict[str, _Folder] = {}
        commits = []
        for scheme in self._inner(str(self._layout.models), new):
            for id in self._inner(scheme, new):
                for commit in self._inner(id, new):
                    if (folder := self._commit(commit)) is not None:
                        new[commit] = folder
                        commits.append(folder)
        refs = [path for path in self._reference_folders() if path is not None]
        for path in refs:
            if (changed := _changed(path)) is not None:
                settled = _settled(changed)
                new[path] = _Folder(settled if settled >= 0 else -time.time_ns())  # equal to no other time
        self._checked = now
        if new == old:
            return
        self._folders, self._commits = new, commits
        self._listing = None
        self._found.clear()
        self.generation += 1

    def _reference_folders(self) -> Iterator[str]:
        """Folders of the records, whose files decide what a name stands for; each change renames a file in one."""
        for scheme in _folders(str(self._layout.refs)):
            for id in _folders(scheme):
                yield id
                yield f"{id}/revisions"

    def _inner(self, path: str, new: dict[str, _Folder]) -> list[str]:
        """The folders in a folder, from memory if it has not changed."""
        changed = _changed(path)
        if changed is None:
            return []
        known = self._folders.get(path)
        if known is None or known.changed != changed:
            known = _Folder(_settled(changed), names=tuple(_folders(path)))
        new[path] = known
        return list(known.names)

    def _commit(self, path: str) -> _Folder | None:
        changed = _changed(path)
        if changed is None:
            return None
        known = self._folders.get(path)
        if known is not None and known.changed == changed:
            return known
        settled = _settled(changed)
        listing = scan(self._layout, Path(path))
        return _Folder(settled, models=listing.models, damaged=listing.damaged)


def _listed(name: str, model: StoredModel, default: bool, revision: str | None) -> Listed:
    manifest = model.manifest
    return Listed(
        name,
        model.id,
        canonical(model.task),
        manifest.precision,
        sum(file.size for file in manifest.files),
        _seconds(manifest.created),
        default,
        revision,
        model,
    )


def _seconds(created: str) -> int:
    try:
        return int(datetime.fromisoformat(created).timestamp())
    except ValueError:
        return 0


def _is_name(text: str) -> bool:
    """Whether a folder's name reads as the name of a model."""
    try:
        ref = ModelRef.parse(text)
    except InvalidReferenceError:
        return False
    return (ref.scheme, ref.id, ref.precision) == ("hf", text, None)


def _changed(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - Path costs more than the call
    except OSError:
        return None


def _settled(changed: int) -> int:
    """The modification time, or -1 where it is so recent that a later change may have the same."""
    return changed if time.time_ns() - changed > CLOCK else -1


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir())
    except OSError:
        return []
