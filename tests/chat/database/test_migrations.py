"""The history of the tables, up and down with data."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from gpux.chat.database import open_database
from gpux.chat.database.address import read_address
from gpux.chat.database.connections import Connections
from gpux.chat.database.database import Database
from gpux.chat.database.migrations.run import revisions
from gpux.chat.database.schema import HEAD, VERSION_TABLE
from gpux.chat.database.tables import metadata
from gpux.errors import DatabaseError, SchemaVersionError, UsageError
from gpux.system.settings import Settings
from tests.chat.database.access import is_sqlite, opened, statement
from tests.chat.database.test_conversations import PNG

TIME = "2024-05-06 07:08:09.123456"


async def tables(url: str) -> set[str]:
    source = "sqlite_master" if is_sqlite(url) else "pg_tables WHERE schemaname = 'public'"
    name = "tbl_name" if is_sqlite(url) else "tablename"
    return {row[0] for row in await statement(url, f"SELECT {name} FROM {source}")} - {"sqlite_sequence"}


def test_the_newest_revision_is_the_one_that_is_expected() -> None:
    assert revisions().get_heads() == [HEAD]
    assert [one.revision for one in revisions().walk_revisions()] == ["0002", "0001"], "extend the tests below"


def test_the_history_makes_the_tables_of_the_program(url: str, settings: Settings) -> None:
    def differences(connection: Connection) -> Any:
        options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    async def main() -> None:
        await Database.migrate(url, settings, HEAD)
        connections = Connections(read_address(url, settings))
        try:
            assert await connections.read(differences) == []
        finally:
            await connections.aclose()

    asyncio.run(main())


def test_conversations_of_the_first_revision_are_kept(url: str, settings: Settings) -> None:
    async def main() -> None:
        await Database.migrate(url, settings, "0001")
        assert "model_usage_stats" not in await tables(url)
        for id, model in (("a", "'llama3:8b'"), ("b", "'hf:org/name'"), ("c", "'openai:gpt'"), ("d", "NULL")):
            values = f"'{id}', 'Title {id}', {model}, false, '{TIME}', '{TIME}'"
            columns = "id, tab_name, llm_model, is_private, created_at, updated_at"
            await statement(url, f"INSERT INTO conversations ({columns}) VALUES ({values})")
            for sender, text, model_of_it in (("user", "Question", "NULL"), ("llm", "Answer", model)):
                columns = "conversation_id, text, sender, llm_model, created_at"
                values = f"'{id}', '{text}', '{sender}', {model_of_it}, '{TIME}'"
                await statement(url, f"INSERT INTO messages ({columns}) VALUES ({values})")
        hexed = f"x'{PNG.data.hex()}'" if is_sqlite(url) else f"'\\x{PNG.data.hex()}'"
        columns = "id, message_id, position, media_type, size, data"
        await statement(
            url, f"INSERT INTO images ({columns}) VALUES ('i', 1, 0, 'image/png', {len(PNG.data)}, {hexed})"
        )

        async with opened(url, settings) as database:
            found = {one.id: one for one in await database.conversations.list()}
            providers = {id: one.model_provider for id, one in found.items()}
            assert providers == {"a": "ollama", "b": "huggingface", "c": "openai", "d": None}
            assert found["a"].created_at.isoformat().startswith("2024-05-06T07:08:09.123456")
            question, answer = await database.conversations.messages("a")
            assert (question.text, question.model_provider, question.finish_reason) == ("Question", None, None)
            assert (answer.text, answer.model_provider, answer.partial) == ("Answer", "ollama", False)
            assert (question.has_images, answer.has_images) == (True, False)
            assert await database.images.get("i") == ("a", PNG)

    asyncio.run(main())


def test_down_and_up_again_keeps_what_the_first_revision_knows(url: str, settings: Settings) -> None:
    async def main() -> None:
        async with opened(url, settings) as database:
            chat = await database.conversations.create(id="a", llm_model="hf:x", model_provider="mine", password="pw")
            await database.conversations.add_message(chat.id, "Look", images=(PNG,))
            answer = await database.answers.begin(chat.id, llm_model="hf:x", model_provider="mine")
            database.answers.append(answer, "I see")
            await database.answers.finish(answer, completion_tokens=2)
            await database.usage.record("mine", "hf:x", total_ms=1)
            before = await database.conversations.messages(chat.id)
        await Database.migrate(url, settings, "0001")
        assert await tables(url) == {"conversations", "messages", "images", VERSION_TABLE}
        async with opened(url, settings) as database:
            assert (await database.conversations.get("a", "pw")).model_provider == "huggingface"
            after = await database.conversations.messages("a")
            assert [(one.id, one.text, one.created_at, one.images) for one in after] == [
                (one.id, one.text, one.created_at, one.images) for one in before
            ]
            assert [one.completion_tokens for one in after] == [None, None]
            assert await database.usage.list() == []
            next_one = await database.conversations.add_message("a", "next")
            assert next_one.id > answer

    asyncio.run(main())


def test_a_revision_that_does_not_exist(url: str, settings: Settings) -> None:
    with pytest.raises(UsageError, match="0042"):
        asyncio.run(Database.migrate(url, settings, "0042"))


def test_a_newer_schema_is_refused_and_left_alone(url: str, settings: Settings) -> None:
    async def main() -> None:
        await Database.migrate(url, settings, HEAD)
        await statement(url, f"UPDATE {VERSION_TABLE} SET version_num = '0999'")
        with pytest.raises(SchemaVersionError) as caught:
            await open_database(url, settings)
        assert caught.value.details["schema"] == "0999"
        assert await statement(url, f"SELECT version_num FROM {VERSION_TABLE}") == [("0999",)]

    asyncio.run(main())


def test_another_programs_tables_are_left_alone(url: str, settings: Settings) -> None:
    async def main() -> None:
        await statement(url, "CREATE TABLE messages (sent integer)")
        with pytest.raises(DatabaseError) as caught:
            await open_database(url, settings)
        assert "messages" in str(caught.value)
        assert await tables(url) == {"messages"}

    asyncio.run(main())


def test_a_migration_that_fails_changes_nothing(url: str, settings: Settings) -> None:
    async def main() -> None:
        await Database.migrate(url, settings, "0001")
        await statement(url, "CREATE TABLE provider_configs (name text)")  # is in the way of the second revision
        with pytest.raises(DatabaseError) as caught:
            await open_database(url, settings)
        assert "provider_configs" in str(caught.value)
        assert await statement(url, f"SELECT version_num FROM {VERSION_TABLE}") == [("0001",)]
        await statement(url, "DROP TABLE provider_configs")
        async with opened(url, settings) as database:
            assert await database.conversations.list() == []

    asyncio.run(main())


def test_alembic_is_imported_only_to_migrate(url: str, settings: Settings) -> None:
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from gpux.chat.database import open_database\n"
        "from gpux.system.settings import Settings\n"
        "async def main():\n"
        "    database = await open_database(sys.argv[1], Settings.from_env(home=Path(sys.argv[2])))\n"
        "    await database.conversations.list()\n"
        "    await database.aclose()\n"
        "asyncio.run(main())\n"
        "print('alembic' in sys.modules, 'asyncpg' in sys.modules)\n"
    )
    said = []
    for _ in range(2):
        command = [sys.executable, "-c", program, url, str(settings.home)]
        said.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert said[0][0] == "True"
    assert said[1] == ["False", str(not is_sqlite(url))]


def test_the_values_need_no_library() -> None:
    program = (
        "import sys\n"
        "import gpux.chat.database.values\n"
        "print([name for name in ('sqlalchemy', 'alembic', 'asyncpg') if name in sys.modules])\n"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert said.strip() == "[]"


def test_a_database_of_its_own_file_is_readable_for_its_user_only(settings: Settings) -> None:
    async def main() -> Path:
        database = await open_database(None, settings)
        await database.conversations.create()
        await database.aclose()
        assert database.address.path is not None
        return database.address.path

    path = asyncio.run(main())
    assert path == settings.home / "conversations.db"
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o777 == 0o600
