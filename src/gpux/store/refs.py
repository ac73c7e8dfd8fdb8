"""The aliases, branches, tags and pull requests by which stored models were pulled, and what they resolved to.

Each record is a small JSON file that is replaced atomically, and is read without network. A damaged record counts as
missing when a reference is resolved; :meth:`Refs.of`, on which removals depend, raises an error for one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from gpux.errors import ManifestError
from gpux.model.json_file import parse_json
from gpux.model.reference import ModelRef
from gpux.model.values import Value, from_builtins
from gpux.store.layout import Layout, stable_id
from gpux.store.manifest import timestamp
from gpux.system import locks
from gpux.system.disk import disk_errors, make_cache_folder
from gpux.system.files import remove_empty, write_atomic


@dataclass(frozen=True)
class Alias(Value):
    """An id as requested, and the canonical id; the two may be equal."""

    scheme: str
    requested_id: str
    id: str
    schema: int = 1


@dataclass(frozen=True)
class RecordedRef(Value):
    """A revision of a canonical id, and the commit that the last pull resolved it to."""

    scheme: str
    id: str
    revision: str | None  #: None: the default branch
    commit: str
    recorded: str  #: ISO 8601, UTC: when the revision first resolved to this commit
    schema: int = 1


@dataclass(frozen=True)
class DefaultPrecision(Value):
    """The precision that a reference without one stands for, as the user chose it, at every revision of a model."""

    scheme: str
    id: str
    precision: str
    schema: int = 1


_Record = TypeVar("_Record", bound=Alias | RecordedRef | DefaultPrecision)


class Refs:
    """The records of one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def record(self, scheme: str, requested_id: str, id: str, revision: str | None, commit: str) -> None:
        """Record the canonical id of an id, and the commit of its revision.

        Raises:
            NotWritableError: the store is not writable.
            DiskFullError: no space for the record.
        """
        alias = Alias(scheme, stable_id(scheme, requested_id), id)
        ref = RecordedRef(scheme, id, revision, commit, timestamp())
        if self._has_alias(alias) and self._has(ref):
            return  # a stored model can be pulled again from a read-only store
        make_cache_folder(self._layout.root)
        with disk_errors(self._layout.root), locks.hold(self._layout.refs_lock):
            if not self._has_alias(alias):
                self._write(self._layout.alias_file(scheme, alias.requested_id), alias)
            if not self._has(ref):
                self._write(self._layout.revision_file(scheme, id, revision), ref)

    def resolve(self, ref: ModelRef) -> tuple[str, str | None]:
        """The canonical id and the commit; None without a record, unless the revision is a full commit hash."""
        id = self.canonical_id(ref.scheme, ref.id)
        if ref.is_commit:
            return id, ref.revision
        found = _read_or_none(RecordedRef, self._layout.revision_file(ref.scheme, id, ref.revision))
        if found is None or (found.id, found.revision) != (id, ref.revision):
            return id, None
        return id, found.commit

    def canonical_id(self, scheme: str, id: str) -> str:
        """The recorded canonical id; the id itself without a record."""
        id = stable_id(scheme, id)
        alias = _read_or_none(Alias, self._layout.alias_file(scheme, id))
        # Names that differ only in case share a file on some file systems; the record has the exact name.
        return alias.id if alias is not None and alias.requested_id == id else id

    def aliases(self) -> list[Alias]:
        """All readable aliases."""
        found = (_read_or_none(Alias, file) for file in self._layout.refs.glob("*/*/alias.json"))
        return [alias for alias in found if alias is not None]

    def of(self, scheme: str, id: str) -> list[RecordedRef]:
        """The recorded revisions of a canonical id.

        Raises:
            ManifestError: a record cannot be read.
        """
        folder = self._layout.ref_folder(scheme, id)
        files = [folder / "default.json", *sorted(folder.glob("revisions/*.json"))]
        found = (_read(RecordedRef, file) for file in files)
        return [ref for ref in found if ref is not None and (ref.scheme, ref.id) == (scheme, id)]

    def default_precision(self, scheme: str, id: str) -> str | None:
        """The precision that the user chose for references without one to a canonical id; None without a choice."""
        found = _read_or_none(DefaultPrecision, self._layout.precision_file(scheme, id))
        return found.precision if found is not None and (found.scheme, found.id) == (scheme, id) else None

    def choose_precision(self, scheme: str, id: str, precision: str | None) -> None:
        """Record the precision that references without one stand for; None deletes the record.

        Raises:
            NotWritableError: the store is not writable.
            DiskFullError: no space for the record.
        """
        file = self._layout.precision_file(scheme, id)
        if precision == self.default_precision(scheme, id):
            return
        make_cache_folder(self._layout.root)
        with disk_errors(self._layout.root), locks.hold(self._layout.refs_lock):
            if precision is not None:
                self._write(file, DefaultPrecision(scheme, id, precision))
            else:
                file.unlink(missing_ok=True)
                remove_empty(file.parent, self._layout.refs)

    def drop(
        self, refs: Iterable[RecordedRef], aliases: Iterable[Alias], defaults: Iterable[DefaultPrecision] = ()
    ) -> None:
        """Delete those of the given records that are unchanged and whose commit, model or precision is not stored.

        Raises:
            NotWritableError: the store is not writable.
        """
        with disk_errors(self._layout.root), locks.hold(self._layout.refs_lock):
            for ref in refs:
                file = self._layout.revision_file(ref.scheme, ref.id, ref.revision)
                if not self._layout.commit(ref.scheme, ref.id, ref.commit).exists():
                    self._unlink(file, ref)
            for alias in aliases:
                if not self._layout.model(alias.scheme, alias.id).exists():
                    self._unlink(self._layout.alias_file(alias.scheme, alias.requested_id), alias)
            for default in defaults:
                self._unlink(self._layout.precision_file(default.scheme, default.id), default)

    def _has_alias(self, alias: Alias) -> bool:
        return _read_or_none(Alias, self._layout.alias_file(alias.scheme, alias.requested_id)) == alias

    def _has(self, ref: RecordedRef) -> bool:
        known = _read_or_none(RecordedRef, self._layout.revision_file(ref.scheme, ref.id, ref.revision))
        return known is not None and replace(known, recorded=ref.recorded) == ref

    def _unlink(self, file: Path, record: Alias | RecordedRef | DefaultPrecision) -> None:
        if _read_or_none(type(record), file) == record:
            file.unlink(missing_ok=True)
            remove_empty(file.parent, self._layout.refs)

    def _write(self, file: Path, record: Alias | RecordedRef | DefaultPrecision) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        # One name for all, under the lock: what a killed process left is overwritten by the next.
        part = self._layout.refs / "being-written.part"
        write_atomic(file, json.dumps(record.to_dict()), flush=True, temporary=part)


def _read(kind: type[_Record], file: Path) -> _Record | None:
    try:
        return from_builtins(kind, parse_json(file.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise ManifestError(
            f"{file} is damaged: {exc}", hint="Delete the file; the next pull writes it again."
        ) from exc


def _read_or_none(kind: type[_Record], file: Path) -> _Record | None:
    with suppress(ManifestError):
        return _read(kind, file)
    return None
