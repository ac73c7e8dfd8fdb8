"""What only a server does: it refuses, ends, is full, and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gpux.errors import DatabaseError, DiskFullError
from gpux.system.settings import Settings
from tests.chat.database.access import opened, statement
from tests.chat.database.postgresql import PostgresServer
from tests.chat.database.test_failures import failure
from tests.waiting import until

pytestmark = pytest.mark.postgres


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    with PostgresServer() as running:
        yield running


def test_what_a_server_refuses(server: PostgresServer, settings: Settings) -> None:
    for wrong, said in (
        (server.url.replace(server.password, "wrong"), "password"),
        (server.url.replace("gpux:", "nobody:"), "password"),
        (server.url.replace("/postgres", "/missing"), "no such database"),
        (server.url.replace(str(server.port), "1"), "cannot be reached"),
        (server.url + "?sslmode=require", "cannot be reached"),
    ):
        error = failure(wrong, settings)
        assert isinstance(error, DatabaseError), wrong
        assert said in str(error)
        assert server.password not in str(error) + str(error.details)


def test_a_user_without_rights(server: PostgresServer, settings: Settings, url: str) -> None:
    asyncio.run(statement(server.url, "CREATE ROLE reader LOGIN PASSWORD 'pw'"))
    error = failure(url.replace(f"gpux:{server.password}", "reader:pw"), settings)
    assert isinstance(error, DatabaseError)
    assert "GRANT" in (error.hint or "")


def test_a_read_only_server(settings: Settings, url: str) -> None:
    async def main() -> None:
        name = url.rpartition("/")[2]
        async with opened(url, settings) as database:
            await database.conversations.create(id="a")
        await statement(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        async with opened(url, settings) as database:
            assert (await database.conversations.get("a")).id == "a"
            with pytest.raises(DatabaseError, match="read-only"):
                await database.conversations.create(id="b")

    asyncio.run(main())


def test_a_server_whose_disk_is_full(settings: Settings, url: str) -> None:
    """The server's own error code, raised by a trigger."""

    async def main() -> None:
        async with opened(url, settings, flush_ms=20) as database:
            chat = await database.conversations.create()
            answer = await database.answers.begin(chat.id)
            database.answers.append(answer, "text")
            await statement(
                url,
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$",
            )
            await statement(
                url,
                "CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON messages "
                "FOR EACH ROW EXECUTE FUNCTION full_disk()",
            )
            with pytest.raises(DiskFullError):
                await database.conversations.add_message(chat.id, "x")
            with pytest.raises(DiskFullError):
                await database.answers.finish(answer)
            await statement(url, "DROP TRIGGER full_disk ON messages")

            async def has_ended() -> bool:
                return not (await database.conversations.messages(chat.id))[0].partial

            await until(has_ended)

    asyncio.run(main())


def test_a_server_that_is_restarted(own_server: PostgresServer, settings: Settings) -> None:
    async def main() -> None:
        async with opened(own_server.url, settings, flush_ms=20) as database:
            chat = await database.conversations.create()
            await database.conversations.add_message(chat.id, "Question")
            answer = await database.answers.begin(chat.id)
            database.answers.append(answer, "one ")
            await database.answers.flush()
            own_server.stop()
            database.answers.append(answer, "two ")
            for use in (database.answers.flush(), database.conversations.list(), database.check()):
                with pytest.raises(DatabaseError) as caught:
                    await use
                assert caught.value.hint
            own_server.start()
            database.answers.append(answer, "three")
            end = await database.answers.finish(answer)
            assert (end.text, end.partial) == ("one two three", False)

    asyncio.run(main())


def test_a_closed_server_does_not_keep_a_database_open(own_server: PostgresServer, settings: Settings) -> None:
    async def main() -> None:
        with pytest.raises(DatabaseError):
            async with opened(own_server.url, settings, flush_ms=3_600_000) as database:
                chat = await database.conversations.create()
                answer = await database.answers.begin(chat.id)
                database.answers.append(answer, "lost")
                own_server.stop()

    asyncio.run(main())
    own_server.start()
