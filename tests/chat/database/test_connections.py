"""Writes of a file: those that wait are written together, and each has its own outcome."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import event

from gpux.chat.database.database import Database
from gpux.errors import ConversationNotFoundError
from gpux.system.settings import Settings
from tests.chat.database.access import opened
from tests.chat.database.conftest import Using

pytestmark = pytest.mark.sqlite


def transactions(database: Database) -> list[object]:
    """The transactions that were committed from now on."""
    committed: list[object] = []
    event.listen(database._connections._database._engine, "commit", committed.append)  # type: ignore[attr-defined]
    return committed


def test_writes_that_wait_share_a_transaction(using: Using) -> None:
    async def test(database: Database) -> None:
        committed = transactions(database)
        begun = await asyncio.gather(*(database.answers.ask(None, f"question {number}") for number in range(90)))
        for one in begun:
            database.answers.append(one.answer_id, f"answer to {one.question_id}")
        await asyncio.gather(*(database.answers.finish(one.answer_id) for one in begun))
        await asyncio.gather(*(database.usage.record("ollama", "a", total_ms=1) for _ in begun))
        assert len(committed) < 20, "270 writes"
        for number, one in enumerate(begun):
            question, answer = await database.conversations.messages(one.conversation_id)
            assert (question.text, answer.text) == (f"question {number}", f"answer to {question.id}")
            assert not answer.partial
        (usage,) = await database.usage.list()
        assert usage.requests == 90

    using(test)


def test_a_write_that_fails_is_not_the_failure_of_those_beside_it(using: Using) -> None:
    async def test(database: Database) -> None:
        chat = await database.conversations.create(id="a")
        wanted = [chat.id if number % 3 else f"none {number}" for number in range(30)]
        writes = (database.conversations.add_message(id, f"{number}") for number, id in enumerate(wanted))
        found = await asyncio.gather(*writes, return_exceptions=True)
        assert all(isinstance(one, ConversationNotFoundError) for one in found[::3])
        texts = [str(number) for number, id in enumerate(wanted) if id == chat.id]
        assert [one.text for one in await database.conversations.messages(chat.id)] == texts

    using(test)


def test_closing_waits_for_writes_whose_callers_are_gone(migrated: str, settings: Settings) -> None:
    async def main() -> None:
        async with opened(migrated, settings) as database:
            writes = [asyncio.create_task(database.conversations.create(id=f"{number}")) for number in range(20)]
            await asyncio.sleep(0)
            for one in writes:
                one.cancel()
            assert all(
                isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*writes, return_exceptions=True)
            )
        async with opened(migrated, settings) as database:
            assert await database.conversations.count() == 20

    asyncio.run(main())


def test_a_database_leaves_no_threads(tmp_path: Path, settings: Settings) -> None:
    async def main() -> None:
        async with opened(f"sqlite:///{tmp_path / 'a.db'}", settings) as database:
            await asyncio.gather(*(database.conversations.list() for _ in range(20)))
            assert any(one.name.startswith("gpux-database") for one in threading.enumerate())
        assert not any(one.name.startswith("gpux-database") for one in threading.enumerate())

    asyncio.run(main())
