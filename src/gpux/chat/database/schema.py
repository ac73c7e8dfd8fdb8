"""The version of the tables, which is read at each start; Alembic is imported only where they are migrated."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text

from gpux.chat.database.connections import Connections, missing
from gpux.chat.database.tables import metadata
from gpux.errors import DatabaseError, SchemaVersionError, UsageError

HEAD = "0002"  #: newest revision of :mod:`gpux.chat.database.migrations`; a test compares both
VERSION_TABLE = "gpux_schema_version"
_LOCK = 0x67707578  #: "gpux": key of the advisory lock of PostgreSQL


async def prepare(connections: Connections) -> None:
    """Create the tables, or migrate them to :data:`HEAD`.

    Raises:
        SchemaVersionError: a newer version of gpux wrote them.
        DatabaseError: the database cannot be used, or is another program's.
    """
    if await connections.read(lambda connection: checked_version(connection, connections)) != HEAD:
        await migrate(connections, HEAD)


async def migrate(connections: Connections, revision: str) -> None:
    """Migrate the tables to a revision, up or down, in one transaction.

    Raises:
        UsageError: there is no such revision.
        UnsupportedOperationError: Alembic is not installed.
        SchemaVersionError: a newer version of gpux wrote them.
        DatabaseError: the database cannot be used, or is another program's.
    """

    def work(connection: Connection) -> None:
        if not connections.is_sqlite:  # SQLite's transaction has locked the file
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        version = checked_version(connection, connections)  # another process may have migrated in the meantime
        if version != revision:
            try:
                from gpux.chat.database.migrations.run import migrate_tables, revisions  # deferred: Alembic is slow
            except ImportError as exc:
                raise missing("chat", exc) from exc
            known = sorted(one.revision for one in revisions().walk_revisions())
            if revision not in known:
                raise UsageError(f"there is no revision {revision!r}", hint=f"One of {', '.join(known)}.")
            migrate_tables(connection, version, revision, VERSION_TABLE)

    await connections.write(work)


def checked_version(connection: Connection, connections: Connections) -> str | None:
    """The revision of the tables; None: the database is empty.

    Raises:
        SchemaVersionError: a newer version of gpux wrote it.
        DatabaseError: it is another program's.
    """
    shown, found = connections.address.shown, set(inspect(connection).get_table_names())
    if VERSION_TABLE not in found:
        if taken := sorted(found & set(metadata.tables)):
            raise DatabaseError(
                f"the database {shown} is another program's: it has the table {taken[0]}",
                hint="Name another database.",
                database=shown,
            )
        return None
    version = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
    if version is not None and version > HEAD:
        raise SchemaVersionError(
            f"the database {shown} has schema {version}, and this gpux reads up to {HEAD}",
            hint="Update gpux (pip install -U gpux), or name another database.",
            database=shown,
            schema=version,
        )
    return version
