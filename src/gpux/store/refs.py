"""What names resolved to: an alias to its canonical id, a branch or tag to its commit; read without network.

A record is a small JSON file, replaced in one step. A damaged one counts as absent when resolving, and as unknown
(:meth:`Refs.of` raises) when something would be deleted for its sake.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from gpux.errors import ManifestError
from gpux.model.reference import ModelRef
from gpux.model.values import Value, from_builtins
from gpux.store.layout import Layout, stable_id
from gpux.store.manifest import timestamp
from gpux.system import locks
from gpux.system.disk import disk_errors, make_cache_folder
from gpux.system.files import remove_empty, write_atomic


@dataclass(frozen=True)
class Alias(Value):
    """A name that stands for a canonical id, itself included."""

    scheme: str
    requested_id: str
    id: str
    schema: int = 1


@dataclass(frozen=True)
class RecordedRef(Value):
    """A revision of a canonical id, as it was last resolved."""

    scheme: str
    id: str
    revision: str | None  #: None: the default branch
    commit: str
    recorded: str  #: ISO 8601, UTC: when it began to lead there
    schema: int = 1


_Record = TypeVar("_Record", bound=Alias | RecordedRef)


class Refs:
    """The records of one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def record(self, scheme: str, requested_id: str, id: str, revision: str | None, commit: str) -> None:
        """Record both what the id stands for and where its revision points now.

        Raises:
            NotWritableError: or DiskFullError.
        """
        alias = Alias(scheme, stable_id(scheme, requested_id), id)
        ref = RecordedRef(scheme, id, revision, commit, timestamp())
        if self._knows_alias(alias) and self._knows(ref):
            return  # so that a stored model can be pulled again from a folder that may only be read
        make_cache_folder(self._layout.root)
        with disk_errors(self._layout.root), locks.hold(self._layout.refs_lock):
            if not self._knows_alias(alias):
                self._write(self._layout.alias_file(scheme, alias.requested_id), alias)
            if not self._knows(ref):
                self._write(self._layout.revision_file(scheme, id, revision), ref)

    def resolve(self, ref: ModelRef) -> tuple[str, str | None]:
        """The canonical id and the commit; None where neither a record nor a full hash tells it."""
        id = self.canonical_id(ref.scheme, ref.id)
        if ref.is_commit:
            return id, ref.revision
        found = _read_or_none(RecordedRef, self._layout.revision_file(ref.scheme, id, ref.revision))
        if found is None or (found.id, found.revision) != (id, ref.revision):
            return id, None
        return id, found.commit

    def canonical_id(self, scheme: str, id: str) -> str:
        """What the id stands for, as far as it is recorded."""
        id = stable_id(scheme, id)
        alias = _read_or_none(Alias, self._layout.alias_file(scheme, id))
        # Names that differ in capitals share a file on some systems; the record says whose it is.
        return alias.id if alias is not None and alias.requested_id == id else id

    def aliases(self) -> list[Alias]:
        """Every readable alias."""
        found = (_read_or_none(Alias, file) for file in self._layout.refs.glob("*/*/alias.json"))
        return [alias for alias in found if alias is not None]

    def of(self, scheme: str, id: str) -> list[RecordedRef]:
        """The recorded revisions of a canonical id.

        Raises:
            ManifestError: one of them cannot be read.
        """
        folder = self._layout.ref_folder(scheme, id)
        files = [folder / "default.json", *sorted(folder.glob("revisions/*.json"))]
        found = (_read(RecordedRef, file) for file in files)
        return [ref for ref in found if ref is not None and (ref.scheme, ref.id) == (scheme, id)]

    def drop(self, refs: Iterable[RecordedRef], aliases: Iterable[Alias]) -> None:
        """Drop the records that still say the same and lead to nothing that is stored.

        Raises:
            NotWritableError: the folder refuses.
        """
        with disk_errors(self._layout.root), locks.hold(self._layout.refs_lock):
            for ref in refs:
                file = self._layout.revision_file(ref.scheme, ref.id, ref.revision)
                if not self._layout.commit(ref.scheme, ref.id, ref.commit).exists():
                    self._unlink(file, ref)
            for alias in aliases:
                if not self._layout.model(alias.scheme, alias.id).exists():
                    self._unlink(self._layout.alias_file(alias.scheme, alias.requested_id), alias)

    def _knows_alias(self, alias: Alias) -> bool:
        return _read_or_none(Alias, self._layout.alias_file(alias.scheme, alias.requested_id)) == alias

    def _knows(self, ref: RecordedRef) -> bool:
        known = _read_or_none(RecordedRef, self._layout.revision_file(ref.scheme, ref.id, ref.revision))
        return known is not None and replace(known, recorded=ref.recorded) == ref

    def _unlink(self, file: Path, record: Alias | RecordedRef) -> None:
        if _read_or_none(type(record), file) == record:
            file.unlink(missing_ok=True)
            remove_empty(file.parent, self._layout.refs)

    def _write(self, file: Path, record: Alias | RecordedRef) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        # One name for all, under the lock: what a killed process left is overwritten by the next.
        part = self._layout.refs / "being-written.part"
        write_atomic(file, json.dumps(record.to_dict()), flush=True, temporary=part)


def _read(kind: type[_Record], file: Path) -> _Record | None:
    try:
        return from_builtins(kind, json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as exc:
        raise ManifestError(f"{file} is damaged: {exc}", hint="Delete it; the next pull writes it anew.") from exc


def _read_or_none(kind: type[_Record], file: Path) -> _Record | None:
    with suppress(ManifestError):
        return _read(kind, file)
    return None
