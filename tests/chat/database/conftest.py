"""A database of its own for each test: a file of SQLite, or one on the PostgreSQL server of ``GPUX_TEST_POSTGRES``."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gpux.chat.database import open_database
from gpux.chat.database.database import Database
from gpux.system.settings import Settings

#: URL of the server's database ``postgres``, whose user may create databases.
SERVER = "GPUX_TEST_POSTGRES"


async def _on_server(statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(os.environ[SERVER])
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_env(home=tmp_path / "home")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Of an empty database."""
    if SERVER not in os.environ:
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    name = f"gpux_{secrets.token_hex(6)}"
    asyncio.run(_on_server(f"CREATE DATABASE {name}"))
    yield os.environ[SERVER].rpartition("/")[0] + f"/{name}"
    asyncio.run(_on_server(f"DROP DATABASE {name} WITH (FORCE)"))


@asynccontextmanager
async def opened(url: str, settings: Settings, flush_ms: int = 250) -> AsyncIterator[Database]:
    database = await open_database(url, settings, flush_ms=flush_ms)
    try:
        yield database
    finally:
        await database.aclose()


@pytest.fixture
def using(url: str, settings: Settings) -> Callable[[Callable[[Database], Awaitable[None]]], None]:
    """Runs a test's coroutine with the database."""

    def run(test: Callable[[Database], Awaitable[None]]) -> None:
        async def main() -> None:
            async with opened(url, settings) as database:
                await test(database)

        asyncio.run(main())

    return run
