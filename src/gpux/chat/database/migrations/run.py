"""Runs revisions with Alembic, in the transaction of the caller."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def revisions() -> ScriptDirectory:
    """The history."""
    return ScriptDirectory.from_config(_config())


def migrate_tables(connection: Connection, present: str | None, wanted: str, version_table: str) -> None:
    """Migrate from the present revision (None: an empty database) to the wanted one, up or down."""
    config, script = _config(), revisions()
    steps: Callable[[Any, Any], Any]
    if present is None or wanted > present:

        def steps(revision: Any, context: Any) -> Any:
            return script._upgrade_revs(wanted, revision)

    else:

        def steps(revision: Any, context: Any) -> Any:
            return script._downgrade_revs(wanted, revision)

    with EnvironmentContext(config, script, fn=steps, destination_rev=wanted) as environment:
        environment.configure(connection=connection, version_table=version_table)
        environment.run_migrations()


def _config() -> Config:
    found = Config()
    found.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    found.set_main_option("path_separator", "os")
    return found
