"""The catalog: list, find, write and remove records."""

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from gpux.catalog.database import SELECT, SELECT_WITH_DETAILS, Database, read_row, write_row
from gpux.catalog.events import default_path
from gpux.catalog.record import Record, Status
from gpux.catalog.rules import checked_overrides
from gpux.errors import InvalidReferenceError, NotStoredError, UsageError
from gpux.model.reference import ModelRef, Reference, local_path
from gpux.system.settings import Settings

Action = Literal["added", "updated", "unchanged"]
#: Fields in which equal descriptions may differ.
_VOLATILE: dict[str, Any] = {"described": "", "added": "", "details": {}}


class Catalog:
    """Records of models in one SQLite file, which threads and processes may share.

    Args:
        path: the file; it is created when the first record is written. Default: ``catalogue.db`` in ``settings.home``.
        settings: default: those of the environment.
    """

    def __init__(self, path: Path | None = None, *, settings: Settings | None = None) -> None:
        self.path = Path(path) if path is not None else default_path(settings or Settings.from_env())
        self._database = Database(self.path)

    def __repr__(self) -> str:
        return f"Catalog({str(self.path)!r})"

    def records(self, *, details: bool = False) -> list[Record]:
        """All records, sorted by reference.

        Args:
            details: load :attr:`Record.details` too.

        Raises:
            StorageError: the file cannot be read; the subclass states why.
        """
        select = SELECT_WITH_DETAILS if details else SELECT
        with self._database.reading() as connection:
            if connection is None:
                return []
            return [read_row(row) for row in connection.execute(f"{select} ORDER BY reference")]

    def get(self, ref: Reference) -> Record:
        """The record of a reference, an id or the user's own name, with its details.

        Raises:
            NotStoredError: no record has this name.
            UsageError: several records have this name.
            StorageError: the file cannot be read.
        """
        return self._with_details(self._one(ref, self.records()).reference)

    def put(self, record: Record, overrides: Mapping[str, Any] | None = None) -> tuple[Record, Action]:
        """Add a record, or update the record of the same reference.

        An update keeps the overrides, the date of addition, the uses and the status; ``overrides`` are applied last,
        see :func:`~gpux.catalog.rules.checked_overrides`.

        Raises:
            UsageError: an override is invalid.
            StorageError: the file cannot be written; the subclass states why.
        """
        given = checked_overrides(overrides or {})
        with self._database.writing() as connection:
            merged, action = merge(_found(connection, record.reference), record, given)
            write_row(connection, merged)
        return merged, action

    def preview(self, record: Record, overrides: Mapping[str, Any] | None = None) -> tuple[Record, Action]:
        """Return what :meth:`put` would write, without writing it."""
        given = checked_overrides(overrides or {})
        with self._database.reading() as connection:
            return merge(_found(connection, record.reference) if connection else None, record, given)

    def move(self, reference: str, record: Record) -> Record:
        """Replace the record of ``reference`` with ``record``, whose reference differs if the model was renamed."""
        with self._database.writing() as connection:
            previous = _found(connection, reference)
            moved, _ = merge(previous, record, {})
            if previous is not None and previous.id != record.id:
                moved = replace(moved, aliases=tuple(dict.fromkeys((*moved.aliases, previous.id))))
            if reference != record.reference:
                moved = _joined(moved, _found(connection, record.reference))
            connection.execute("DELETE FROM records WHERE reference = ?", (reference,))
            write_row(connection, moved)
        return moved

    def mark(self, reference: str, status: Status, reason: str | None = None) -> None:
        """Set the status of a record, if it exists."""
        with self._database.writing() as connection:
            statement = "UPDATE records SET status = ?, reason = ? WHERE reference = ?"
            connection.execute(statement, (status, reason, reference))

    def remove(self, refs: Iterable[Reference]) -> list[Record]:
        """Remove records, all or none; stored models are kept.

        Raises:
            NotStoredError: a record does not exist.
            UsageError: several records have one of the names.
            StorageError: the file cannot be written.
        """
        known = self.records()
        found = {record.reference: record for record in (self._one(ref, known) for ref in refs)}
        if found:
            with self._database.writing() as connection:
                connection.executemany("DELETE FROM records WHERE reference = ?", [(name,) for name in found])
        return list(found.values())

    def select(self, refs: Iterable[Reference]) -> list[Record]:
        """The records of references, ids or names, without details; see :meth:`get`."""
        known = self.records()
        return list({record.reference: record for record in (self._one(ref, known) for ref in refs)}.values())

    def _with_details(self, reference: str) -> Record:
        with self._database.reading() as connection:
            record = _found(connection, reference) if connection else None
        if record is None:  # another process removed it
            raise NotStoredError(f"the catalog has no record of {reference!r}", reference=reference)
        return record

    def _one(self, ref: Reference, records: list[Record]) -> Record:
        names = _names(ref)
        exact = [record for record in records if record.reference in names]
        found = exact or [record for record in records if any(map(record.answers_to, names))]
        if not found:
            known = [name for record in records for name in (record.reference, record.name) if name]
            near = difflib.get_close_matches(str(ref), known, n=1)
            hint = (
                f"Did you mean {near[0]!r}?"
                if near
                else f"`gpux catalog` lists the records, `gpux import {ref}` adds one."
            )
            raise NotStoredError(f"the catalog has no record of {str(ref)!r}", hint=hint, reference=str(ref))
        if len(found) > 1:
            several = ", ".join(record.reference for record in found)
            raise UsageError(f"several records are named {str(ref)!r}", hint=f"Name one of: {several}.")
        return found[0]


def merge(previous: Record | None, record: Record, given: Mapping[str, Any]) -> tuple[Record, Action]:
    """Update a previous record with a new description and checked overrides."""
    if previous is None:
        return record.with_overrides(given), "added"
    back = previous.status == "gone"
    kept = replace(
        record,
        overrides=previous.overrides,
        added=previous.added,
        aliases=tuple(dict.fromkeys((*previous.aliases, *record.aliases))),
        status=record.status if back or record.status == "pulled" else previous.status,
        reason=None if back or record.status == "pulled" else previous.reason,
        uses=previous.uses,
        last_used=previous.last_used,
    ).with_overrides(given)
    same = replace(kept, **_VOLATILE) == replace(previous, **_VOLATILE)
    return kept, "unchanged" if same else "updated"


def _joined(record: Record, other: Record | None) -> Record:
    """Merge two records of one model; overrides of the record that has the model's current name win."""
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
    row = connection.execute(f"{SELECT_WITH_DETAILS} WHERE reference = ?", (reference,)).fetchone()
    return read_row(row) if row else None


def _names(ref: Reference) -> tuple[str, ...]:
    """The names under which a text is looked up: itself, and the canonical reference that it parses to."""
    text = str(ref) if isinstance(ref, ModelRef) else str(ref).strip()
    try:
        parsed = ModelRef.parse(ref)
    except InvalidReferenceError:
        return (text,)  # the user's own name for a model
    if parsed.scheme == "local":
        return text, str(local_path(parsed.id)), str(local_path(parsed.id).resolve())
    whole = f"{parsed.id}/{parsed.file}" if parsed.file else parsed.id
    return text, str(ModelRef(parsed.scheme, whole, parsed.revision))
