"""The catalog: its records listed, found, put and removed."""

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from gpux.catalog import rows
from gpux.catalog.database import Database
from gpux.catalog.events import default_path
from gpux.catalog.record import Record, Status
from gpux.catalog.rules import checked_overrides
from gpux.errors import InvalidReferenceError, NotStoredError, UsageError
from gpux.model.reference import ModelRef, Reference
from gpux.system.settings import Settings

Action = Literal["added", "updated", "unchanged"]
#: What may differ between two descriptions that say the same.
_PASSING: dict[str, Any] = {"described": "", "added": "", "details": {}}


class Catalog:
    """Records of models in one SQLite file; threads and processes may share it.

    Args:
        path: of the file, which need not exist: it is made when a record is put. By default that of the settings.
        settings: by default the environment's.
    """

    def __init__(self, path: Path | None = None, *, settings: Settings | None = None) -> None:
        self.path = Path(path) if path is not None else default_path(settings or Settings.from_env())
        self._database = Database(self.path)

    def __repr__(self) -> str:
        return f"Catalog({str(self.path)!r})"

    def records(self, *, details: bool = False) -> list[Record]:
        """Every record in the order of their references; with all that is known of each only if asked for.

        Raises:
            StorageError: the file cannot be read; the subclass says why.
        """
        select = rows.SELECT_WHOLE if details else rows.SELECT
        with self._database.reading() as connection:
            if connection is None:
                return []
            return [rows.read(row) for row in connection.execute(f"{select} ORDER BY reference")]

    def get(self, ref: Reference) -> Record:
        """The record that a reference, an id, or the user's own name means, with all that is known.

        Raises:
            NotStoredError: there is none.
            UsageError: several have this name.
            StorageError: the file cannot be read.
        """
        return self._whole(self._one(ref, self.records()).reference)

    def put(self, record: Record, overrides: Mapping[str, Any] | None = None) -> tuple[Record, Action]:
        """Write what is known of a model, over a former record of the same reference.

        What users said of it, when it was added, its uses and status stay; ``overrides`` come on top, as
        :func:`~gpux.catalog.rules.checked_overrides` says.

        Raises:
            UsageError: an override that cannot be meant.
            StorageError: the file cannot be written; the subclass says why.
        """
        given = checked_overrides(overrides or {})
        with self._database.writing() as connection:
            merged, action = merge(_found(connection, record.reference), record, given)
            rows.write(connection, merged)
        return merged, action

    def preview(self, record: Record, overrides: Mapping[str, Any] | None = None) -> tuple[Record, Action]:
        """What :meth:`put` would write; writes nothing."""
        given = checked_overrides(overrides or {})
        with self._database.reading() as connection:
            return merge(_found(connection, record.reference) if connection else None, record, given)

    def move(self, reference: str, record: Record) -> Record:
        """Put a record in the place of one of another reference: its model was renamed."""
        with self._database.writing() as connection:
            former = _found(connection, reference)
            moved, _ = merge(former, record, {})
            if former is not None and former.id != record.id:
                moved = replace(moved, aliases=tuple(dict.fromkeys((*moved.aliases, former.id))))
            if reference != record.reference:
                moved = _joined(moved, _found(connection, record.reference))
            connection.execute("DELETE FROM records WHERE reference = ?", (reference,))
            rows.write(connection, moved)
        return moved

    def mark(self, reference: str, status: Status, reason: str | None = None) -> None:
        """Set the status of a record; nothing where there is none."""
        with self._database.writing() as connection:
            statement = "UPDATE records SET status = ?, reason = ? WHERE reference = ?"
            connection.execute(statement, (status, reason, reference))

    def remove(self, refs: Iterable[Reference]) -> list[Record]:
        """Take records out, all or none; what is stored of the models stays.

        Raises:
            NotStoredError: one of them is not there.
            UsageError: several have its name.
            StorageError: the file cannot be written.
        """
        known = self.records()
        found = {record.reference: record for record in (self._one(ref, known) for ref in refs)}
        if found:
            with self._database.writing() as connection:
                connection.executemany("DELETE FROM records WHERE reference = ?", [(name,) for name in found])
        return list(found.values())

    def select(self, refs: Iterable[Reference]) -> list[Record]:
        """The records that references, ids or names mean, without details; see :meth:`get`."""
        known = self.records()
        return list({record.reference: record for record in (self._one(ref, known) for ref in refs)}.values())

    def _whole(self, reference: str) -> Record:
        with self._database.reading() as connection:
            record = _found(connection, reference) if connection else None
        if record is None:  # removed meanwhile
            raise NotStoredError(f"the catalog has no {reference!r}", reference=reference)
        return record

    def _one(self, ref: Reference, records: list[Record]) -> Record:
        names = _names(ref)
        exact = [record for record in records if record.reference in names]
        found = exact or [record for record in records if any(map(record.answers_to, names))]
        if not found:
            known = [name for record in records for name in (record.reference, record.name) if name]
            near = difflib.get_close_matches(str(ref), known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Add it with `gpux import {ref}`."
            raise NotStoredError(f"the catalog has no {str(ref)!r}", hint=hint, reference=str(ref))
        if len(found) > 1:
            several = ", ".join(record.reference for record in found)
            raise UsageError(f"several records are named {str(ref)!r}", hint=f"Name one of: {several}.")
        return found[0]


def merge(former: Record | None, record: Record, given: Mapping[str, Any]) -> tuple[Record, Action]:
    """A new description over a former record, with checked overrides on top."""
    if former is None:
        return record.with_overrides(given), "added"
    back = former.status == "gone"
    kept = replace(
        record,
        overrides=former.overrides,
        added=former.added,
        aliases=tuple(dict.fromkeys((*former.aliases, *record.aliases))),
        status=record.status if back or record.status == "pulled" else former.status,
        reason=None if back or record.status == "pulled" else former.reason,
        uses=former.uses,
        last_used=former.last_used,
    ).with_overrides(given)
    same = replace(kept, **_PASSING) == replace(former, **_PASSING)
    return kept, "unchanged" if same else "updated"


def _joined(record: Record, other: Record | None) -> Record:
    """One record of two that turned out to be one model: words of the one that has the name now go first."""
    if other is None:
        return record
    return replace(
        record,
        overrides={**record.overrides, **other.overrides},
        aliases=tuple(dict.fromkeys((*other.aliases, *record.aliases))),
        added=min(record.added, other.added),
        uses=record.uses + other.uses,
        last_used=max(record.last_used or "", other.last_used or "") or None,
    )


def _found(connection: sqlite3.Connection, reference: str) -> Record | None:
    row = connection.execute(f"{rows.SELECT_WHOLE} WHERE reference = ?", (reference,)).fetchone()
    return rows.read(row) if row else None


def _names(ref: Reference) -> tuple[str, ...]:
    """What a text may mean: itself, and the reference that it is a form of."""
    text = str(ref) if isinstance(ref, ModelRef) else str(ref).strip()
    try:
        parsed = ModelRef.parse(ref)
    except InvalidReferenceError:
        return (text,)  # a name as the user's own may be
    if parsed.scheme == "local":
        return text, str(Path(parsed.id).expanduser().absolute()), str(Path(parsed.id).expanduser().resolve())
    whole = f"{parsed.id}/{parsed.file}" if parsed.file else parsed.id
    return text, str(ModelRef(parsed.scheme, whole, parsed.revision))
