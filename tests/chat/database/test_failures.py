"""Databases that cannot be used: typed errors with a next step, and work that continues afterwards."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from gpux.chat.database import open_database
from gpux.chat.database.address import read_address
from gpux.chat.database.connections import Connections
from gpux.chat.database.database import Database
from gpux.errors import DatabaseError, DiskFullError, GpuxError, NotWritableError, StorageError, UsageError
from gpux.system.settings import Settings
from tests.chat.database.access import MOMENT, locked, opened, statement
from tests.chat.database.conftest import Using
from tests.read_only import frozen_fixture  # noqa: F401 - the fixture ``frozen``
from tests.waiting import until


def failure(url: str | None, settings: Settings) -> GpuxError:
    """The error of opening a database, which has a next step."""

    async def main() -> None:
        async with opened(url or "", settings, wait=MOMENT) as database:
            await database.conversations.create()

    with pytest.raises(GpuxError) as caught:
        asyncio.run(main())
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    "url",
    [
        "mysql://localhost/x",
        "sqlite+pysqlite:///x.db",
        "conversations.db",
        "://",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory",
        "sqlite:///x.db?timeout=5",
        "sqlite://host/x.db",
        "sqlite:///~nobody-has-this-name/x.db",
        "sqlite:///nul\0.db",
        "postgresql://me:s3cret@localhost",
        "postgresql://me:s3cret@localhost/x?unknown=1",
        "postgresql://me:s3cret@localhost/x?sslmode=sometimes",
        "postgresql://me:s3cret@localhost:port/x",
        "postgresql+psycopg://me:s3cret@localhost/x",
    ],
)
def test_an_url_that_is_not_a_database(url: str, settings: Settings) -> None:
    error = failure(url, settings)
    assert isinstance(error, UsageError)
    assert "s3cret" not in str(error) + (error.hint or "") + str(error.details)


def test_urls_of_both_databases_are_understood(settings: Settings, tmp_path: Path) -> None:
    def read(url: str | None) -> tuple[str, str]:
        address = read_address(url, settings)
        return address.url.render_as_string(hide_password=False), address.shown

    own = settings.home / "conversations.db"
    assert read(None) == read("") == (f"sqlite+pysqlite:///{own}", str(own))
    assert read(f"sqlite:///{tmp_path}/x y.db")[1] == f"{tmp_path}/x y.db"
    assert read("sqlite:///x.db")[1] == str(Path("x.db").absolute())
    for scheme in ("postgres", "postgresql", "postgresql+asyncpg"):
        full, shown = read(f"{scheme}://me:s%40cret@host:5433/name?sslmode=require")
        assert full == "postgresql+asyncpg://me:s%40cret@host:5433/name?ssl=require"
        assert shown == "postgresql://me:***@host:5433/name"


def test_a_locked_database_is_an_error_and_then_works(url: str, settings: Settings) -> None:
    async def main() -> None:
        async with opened(url, settings, wait=MOMENT) as database:
            await database.conversations.create(id="a")
            async with locked(url):
                with pytest.raises(DatabaseError, match="locked") as caught:
                    await database.conversations.create(id="b")
                assert caught.value.hint
                assert [one.id for one in await database.conversations.list()] == ["a"]
            await database.conversations.create(id="b")

    asyncio.run(main())


def test_many_writers_wait_for_a_lock_together(migrated: str, settings: Settings) -> None:
    """One after the other, they would wait longer than the timeout of pytest."""

    async def main() -> None:
        async with opened(migrated, settings, wait=1) as database:
            async with locked(migrated):
                writers = [database.conversations.create(id=f"{number}") for number in range(400)]
                errors = await asyncio.gather(*writers, return_exceptions=True)
                assert all(isinstance(error, DatabaseError) for error in errors)
            await database.conversations.create(id="a")
            assert await database.conversations.count() == 1

    asyncio.run(main())


def test_tables_that_were_changed_by_hand(using: Using, url: str) -> None:
    async def test(database: Database) -> None:
        await statement(url, "ALTER TABLE conversations RENAME COLUMN tab_name TO renamed")
        with pytest.raises(DatabaseError) as caught:
            await database.conversations.list()
        assert caught.value.hint

    using(test)


@pytest.mark.sqlite
def test_a_file_that_is_not_a_database(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    error = failure(f"sqlite:///{path}", settings)
    assert isinstance(error, DatabaseError)
    assert path.read_text().startswith("not a database")


@pytest.mark.sqlite
def test_a_folder_in_place_of_the_file(tmp_path: Path, settings: Settings) -> None:
    assert isinstance(failure(f"sqlite:///{tmp_path}", settings), DatabaseError)


@pytest.mark.sqlite
@pytest.mark.skipif(sys.platform == "win32", reason="names may be longer there")
def test_a_name_that_is_too_long(tmp_path: Path, settings: Settings) -> None:
    assert isinstance(failure(f"sqlite:///{tmp_path / ('x' * 300)}", settings), StorageError)


@pytest.mark.sqlite
def test_a_file_in_place_of_the_folder(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "file").touch()
    assert isinstance(failure(f"sqlite:///{tmp_path / 'file' / 'x.db'}", settings), NotWritableError)


@pytest.mark.sqlite
def test_a_folder_that_cannot_be_written(tmp_path: Path, settings: Settings, frozen: Callable[[Path], None]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    url = f"sqlite:///{folder / 'test.db'}"

    async def create() -> None:
        async with opened(url, settings) as database:
            await database.conversations.create()

    asyncio.run(create())
    frozen(folder)
    error = failure(url, settings)
    assert isinstance(error, DatabaseError)
    assert str(folder / "test.db") in str(error)
    assert isinstance(failure(f"sqlite:///{folder / 'other.db'}", settings), NotWritableError)


@pytest.mark.sqlite
@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be removed")
@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_removed_while_it_is_used(tmp_path: Path, settings: Settings, replaced: bool) -> None:
    path = tmp_path / "test.db"

    async def main() -> None:
        async with opened(f"sqlite:///{path}", settings) as database:
            await database.conversations.create(id="a")
            path.rename(tmp_path / "moved.db")
            if replaced:
                path.touch()
            for use in (database.conversations.create(id="b"), database.check()):
                with pytest.raises(DatabaseError, match="removed"):
                    await use

    asyncio.run(main())


@pytest.mark.sqlite
def test_a_damaged_file(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "test.db"

    async def fill() -> None:
        async with opened(f"sqlite:///{path}", settings) as database:
            chat = await database.conversations.create()
            for _ in range(20):
                await database.conversations.add_message(chat.id, "x" * 5000)

    asyncio.run(fill())
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    assert isinstance(failure(f"sqlite:///{path}", settings), DatabaseError)


@pytest.mark.sqlite
def test_a_file_that_another_program_locks_at_the_start(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "test.db"
    with sqlite3.connect(path, isolation_level=None) as file:
        file.execute("BEGIN EXCLUSIVE")
        assert isinstance(failure(f"sqlite:///{path}", settings), DatabaseError)
        file.execute("ROLLBACK")
    file.close()
    asyncio.run(_opens(f"sqlite:///{path}", settings))


async def _opens(url: str, settings: Settings) -> None:
    await (await open_database(url, settings)).aclose()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where the system lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        allowed = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def _fill_and_free(database: Database, free: Callable[[], None]) -> None:
    """Write until no space is left: what was written stays, and after space was freed, what was lacking is written."""
    chat = await database.conversations.create()
    answer = await database.answers.begin(chat.id)
    database.answers.append(answer, "before ")
    await database.answers.flush()
    stored = 0
    with pytest.raises(DiskFullError) as caught:
        while True:
            await database.conversations.add_message(chat.id, "x" * 50_000)
            stored += 1
    assert caught.value.hint
    assert stored
    database.answers.append(answer, "y" * 100_000)
    with pytest.raises(DiskFullError):
        await database.answers.flush()
    with pytest.raises(DiskFullError):
        await database.answers.finish(answer)
    found = await database.conversations.messages(chat.id)
    assert (found[0].text, found[0].partial, len(found)) == ("before ", True, stored + 1)
    free()

    async def has_ended() -> bool:
        return not (await database.conversations.messages(chat.id))[0].partial

    await until(has_ended)
    assert (await database.conversations.messages(chat.id))[0].text == "before " + "y" * 100_000


@pytest.mark.sqlite
def test_a_full_disk(small_disk: Path, settings: Settings) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(400_000))

    async def main() -> None:
        async with opened(f"sqlite:///{small_disk / 'test.db'}", settings, flush_ms=20) as database:
            await _fill_and_free(database, filler.unlink)

    asyncio.run(main())


@pytest.mark.sqlite
def test_a_full_database(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a full disk, on machines where none can be mounted: SQLite's own limit of pages."""
    pages = [100]
    begun = Connections.__init__

    def limited(self: Connections, *args: Any, **options: Any) -> None:
        begun(self, *args, **options)

        def limit(connection: Any) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages[0]}")

        event.listen(self._database._writing, "begin", limit)  # type: ignore[attr-defined]

    monkeypatch.setattr(Connections, "__init__", limited)

    async def main() -> None:
        async with opened(f"sqlite:///{tmp_path / 'test.db'}", settings, flush_ms=20) as database:
            await _fill_and_free(database, lambda: pages.__setitem__(0, 1_000_000))

    asyncio.run(main())
