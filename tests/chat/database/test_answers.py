"""Answers in progress: partial from their start, whole at their end, whatever happens in between."""

from __future__ import annotations

import asyncio

import pytest

from gpux.chat.database.database import Database
from gpux.chat.database.values import EndReason, StoredMessage
from gpux.errors import ConversationNotFoundError, DatabaseError
from gpux.system.settings import Settings
from tests.chat.database.access import MOMENT, locked, opened
from tests.chat.database.conftest import Using
from tests.waiting import until


async def last(database: Database, id: str) -> StoredMessage:
    return (await database.conversations.messages(id))[-1]


async def stored(database: Database, id: str, text: str) -> StoredMessage:
    """The last message, once it has the text."""
    found = None

    async def has_come() -> bool:
        nonlocal found
        found = await last(database, id)
        return found.text == text

    await until(has_come, lambda: found)
    assert found is not None
    return found


async def has_ended(database: Database, id: str) -> bool:
    return not (await last(database, id)).partial


def test_an_answer_is_partial_until_its_end(using: Using) -> None:
    async def test(database: Database) -> None:
        chat = await database.conversations.create()
        await database.conversations.add_message(chat.id, "Question")
        answer = await database.answers.begin(chat.id, llm_model="hf:a", model_provider="huggingface")
        empty = await last(database, chat.id)
        assert (empty.text, empty.partial, empty.sender, empty.finish_reason) == ("", True, "llm", None)
        database.answers.append(answer, "One ")
        database.answers.append(answer, "two")
        so_far = await stored(database, chat.id, "One two")
        assert so_far.partial
        database.answers.append(answer, " three")
        end = await database.answers.finish(answer, prompt_tokens=4, completion_tokens=3)
        assert end == await last(database, chat.id)
        assert (end.text, end.partial, end.finish_reason) == ("One two three", False, "stop")
        assert (end.prompt_tokens, end.completion_tokens, end.llm_model) == (4, 3, "hf:a")
        with pytest.raises(KeyError):
            database.answers.append(answer, "late")

    using(test)


@pytest.mark.parametrize(
    ("reason", "partial"), [("stop", False), ("length", False), ("terminated", True), ("error", True)]
)
def test_an_answer_that_was_cut_stays_partial(using: Using, reason: EndReason, partial: bool) -> None:
    async def test(database: Database) -> None:
        chat = await database.conversations.create()
        answer = await database.answers.begin(chat.id)
        database.answers.append(answer, "Half")
        end = await database.answers.finish(
            answer, finish_reason=reason, error="deadline" if reason == "error" else None
        )
        assert (end.text, end.partial, end.finish_reason) == ("Half", partial, reason)
        assert end.error == ("deadline" if reason == "error" else None)

    using(test)


def test_characters_that_no_database_stores_are_replaced(using: Using) -> None:
    async def test(database: Database) -> None:
        chat = await database.conversations.create()
        answer = await database.answers.begin(chat.id)
        for piece in ("a\x00", "\ud83d", "👋"):
            database.answers.append(answer, piece)
        assert (await database.answers.finish(answer)).text == "a\ufffd\ufffd👋"

    using(test)


def test_answers_at_once_do_not_mix(using: Using) -> None:
    async def answered(database: Database, number: int) -> None:
        chat = await database.conversations.create(id=f"chat-{number}")
        await database.conversations.add_message(chat.id, f"question {number}")
        answer = await database.answers.begin(chat.id)
        for piece in range(20):
            database.answers.append(answer, f"{number}.{piece} ")
            await asyncio.sleep(0.002)
        await database.answers.finish(answer, completion_tokens=20)

    async def test(database: Database) -> None:
        await asyncio.gather(*(answered(database, number) for number in range(50)))
        for number in range(50):
            question, answer = await database.conversations.messages(f"chat-{number}")
            assert question.text == f"question {number}"
            assert answer.text == "".join(f"{number}.{piece} " for piece in range(20))
            assert not answer.partial

    using(test)


def test_deleting_a_conversation_ends_the_storage_of_its_answer(using: Using) -> None:
    async def test(database: Database) -> None:
        chat = await database.conversations.create()
        answer = await database.answers.begin(chat.id)
        database.answers.append(answer, "never stored")
        await database.conversations.delete(chat.id)
        other = await database.conversations.create()
        later = await database.conversations.add_message(other.id, "not changed")
        assert later.id != answer
        await database.answers.flush()
        with pytest.raises(ConversationNotFoundError):
            await database.answers.finish(answer)
        assert [one.text for one in await database.conversations.messages(other.id)] == ["not changed"]

    using(test)


def test_the_end_is_written_although_its_caller_is_cancelled(using: Using) -> None:
    async def test(database: Database) -> None:
        chat = await database.conversations.create()
        answer = await database.answers.begin(chat.id)
        database.answers.append(answer, "whole")
        ending = asyncio.create_task(database.answers.finish(answer))
        await asyncio.sleep(0)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        await until(lambda: has_ended(database, chat.id))
        assert (await last(database, chat.id)).text == "whole"

    using(test)


def test_what_a_lock_keeps_from_being_written_is_written_later(url: str, settings: Settings) -> None:
    async def main() -> None:
        async with opened(url, settings, flush_ms=10, wait=MOMENT) as database:
            chat = await database.conversations.create()
            going, ending = await database.answers.begin(chat.id), await database.answers.begin(chat.id)
            database.answers.append(going, "going ")
            database.answers.append(ending, "ended")
            await database.answers.flush()
            async with locked(url):
                database.answers.append(going, "on")
                with pytest.raises(DatabaseError) as caught:
                    await database.answers.flush()
                assert caught.value.hint
                with pytest.raises(DatabaseError):
                    await database.answers.finish(ending)
                with pytest.raises(DatabaseError):
                    await database.conversations.add_message(chat.id, "a question")
                assert [one.text for one in await database.conversations.messages(chat.id)] == ["going ", "ended"]
            await until(lambda: has_ended(database, chat.id))
            assert (await database.answers.finish(going)).text == "going on"

    asyncio.run(main())


def test_closing_writes_what_is_in_progress(url: str, settings: Settings) -> None:
    async def main() -> None:
        async with opened(url, settings, flush_ms=3_600_000) as database:
            chat = await database.conversations.create(id="a")
            database.answers.append(await database.answers.begin(chat.id), "so far")
        async with opened(url, settings) as database:
            found = await last(database, "a")
            assert (found.text, found.partial, found.finish_reason) == ("so far", True, None)

    asyncio.run(main())
