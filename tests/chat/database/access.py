"""A database, opened by gpux and by another program."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from functools import cache
from pathlib import Path
from typing import Any

from gpux.chat.database.database import Database
from gpux.system.settings import Settings

#: Seconds for which tests wait for locks.
MOMENT = 0.5


@cache
def empty_database() -> bytes:
    """The file of an SQLite database with migrated tables, which is made once for all tests of a process."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "empty.db")

        async def make() -> None:
            async with opened(f"sqlite:///{file}", Settings.from_env(home=Path(folder))):
                pass

        with ThreadPoolExecutor(1) as thread:  # the caller may have an event loop
            thread.submit(lambda: asyncio.run(make())).result()
        return file.read_bytes()


@asynccontextmanager
async def opened(url: str, settings: Settings, *, flush_ms: int = 250, wait: float = 60) -> AsyncIterator[Database]:
    database = await Database.open(url, settings, flush_ms=flush_ms, wait=wait)
    try:
        yield database
    finally:
        await database.aclose()


def is_sqlite(url: str) -> bool:
    return url.startswith("sqlite:")


async def statement(url: str, text: str) -> list[tuple[Any, ...]]:
    """Run a statement as another program, and commit it; its rows."""
    if is_sqlite(url):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as file:
            return list(file.execute(text))
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(text)]
    finally:
        await connection.close()


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    """Another program holds the lock that every writer needs."""
    if is_sqlite(url):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            yield
        return
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        await connection.execute("BEGIN; LOCK TABLE conversations, messages IN EXCLUSIVE MODE")
        yield
    finally:
        await connection.close()
