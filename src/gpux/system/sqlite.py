"""Schemas of SQLite files: whose file it is, its version, and the statements that lead from one version to the next."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True)
class Schema:
    """The schema of one kind of file; see https://sqlite.org/pragma.html#pragma_application_id."""

    application: int  #: ``application_id`` in the header of the file
    #: the statements that lead from each version to the next; those of a released version are never changed
    migrations: tuple[tuple[str, ...], ...]

    @property
    def version(self) -> int:
        """The version that this gpux writes."""
        return len(self.migrations)

    def version_of(self, connection: sqlite3.Connection) -> int | None:
        """The version of an open file; 0 for an empty one, None for another program's. It may be a later one.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return None if owner != self.application and objects else int(version)

    def upgrade(self, connection: sqlite3.Connection, version: int) -> None:
        """Bring a file from a version to the one of this gpux; within the caller's transaction.

        Raises:
            sqlite3.Error: a statement failed.
        """
        for step in self.migrations[version:]:
            for statement in step:
                connection.execute(statement)
        if version < self.version:
            connection.execute(f"PRAGMA application_id = {self.application}")
            connection.execute(f"PRAGMA user_version = {self.version}")
