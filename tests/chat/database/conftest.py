"""A database of its own for each test: a file of SQLite, or on a PostgreSQL server."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from gpux.chat.database.database import Database
from gpux.system.settings import Settings
from tests.chat.database.access import empty_database, is_sqlite, opened
from tests.chat.database.postgresql import PostgresServer

#: Set by `./dev postgres`: the databases are on a PostgreSQL server, which is started for the tests.
ON_SERVER = "GPUX_TEST_POSTGRES"


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as running:
        yield running


async def on_server(server: PostgresServer, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_env(home=tmp_path / "home")


@pytest.fixture
def url(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Of an empty database."""
    if ON_SERVER not in os.environ:
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    server: PostgresServer = request.getfixturevalue("server")
    name = f"gpux_{secrets.token_hex(6)}"
    asyncio.run(on_server(server, f"CREATE DATABASE {name}"))
    yield server.url.removesuffix("postgres") + name
    asyncio.run(on_server(server, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def migrated(url: str) -> str:
    """The URL of a database that has no rows; a file of SQLite has the tables."""
    if is_sqlite(url):
        Path(url.removeprefix("sqlite:///")).write_bytes(empty_database())
    return url


Using = Callable[[Callable[[Database], Awaitable[None]]], None]


@pytest.fixture
def using(migrated: str, settings: Settings) -> Using:
    """Runs a test's coroutine with the database."""

    def run(test: Callable[[Database], Awaitable[None]]) -> None:
        async def main() -> None:
            async with opened(migrated, settings) as database:
                await test(database)

        asyncio.run(main())

    return run
