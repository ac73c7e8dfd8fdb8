"""Answers to messages, what is stored of them and how they end: with a real database and a scripted provider."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gpux.chat.database.database import Database
from gpux.chat.database.values import StoredMessage
from gpux.chat.providers.registry import ModelProviderRegistry
from gpux.chat.providers.router import StreamMessageRouter
from gpux.chat.streams import Asked, Ended, Event, Failed, Notice, Session, Sessions, Token, answered
from gpux.chat.values import ChatConfiguration, Delta, Finished, Image, Message, ModelConfig
from gpux.errors import (
    ConversationAccessError,
    ConversationNotFoundError,
    DatabaseError,
    ModelNotFoundError,
    OverloadedError,
    ProviderError,
    ProviderNotFoundError,
    ProviderUnavailableError,
    UsageError,
)
from gpux.system.settings import Settings
from tests.chat.database.access import MOMENT, empty_database
from tests.chat.providers.scripted import Fixed, Scripted, registry_of
from tests.waiting import until

END = Finished(reason="stop", prompt_tokens=3, completion_tokens=2)
STOPPING = OverloadedError("the server is stopping", hint="Later.", stopping=True)
PIXEL = Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png")


class Chat:
    """The parts of a service that answers need."""

    def __init__(self, registry: ModelProviderRegistry, configuration: ChatConfiguration, database: Database) -> None:
        self.registry, self.database = registry, database
        self.router = StreamMessageRouter(registry, Fixed(configuration))
        self.sessions = Sessions(self)

    async def stored(self, conversation_id: str | None) -> list[StoredMessage]:
        assert conversation_id is not None
        return await self.database.conversations.messages(conversation_id)


@asynccontextmanager
async def opened(folder: Path, *providers: Scripted, **configuration: Any) -> AsyncIterator[Chat]:
    found = ChatConfiguration(**{"retry_delay_ms": 1, "retry_attempts": 0, **configuration})
    file = folder / "conversations.db"
    if not file.exists():
        file.write_bytes(empty_database())
    database = await Database.open(None, Settings.from_env(home=folder), flush_ms=10, wait=MOMENT)
    chat = Chat(await registry_of(*providers, configuration=found), found, database)
    try:
        yield chat
    finally:
        await chat.sessions.close(STOPPING)
        assert not chat.sessions.running()
        await database.aclose()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


async def events(session: Session) -> list[Event]:
    async with aclosing(session.events()) as found:
        return [one async for one in found]


async def ended(chat: Chat, asked: Asked) -> tuple[Session, list[Event]]:
    session = await chat.sessions.begin(asked)
    found = await events(session)
    await session.task
    return session, found


async def next_token(session: Session) -> str:
    async for one in session.events():
        assert isinstance(one, Token)
        return one.text
    raise AssertionError


def texts(found: list[Event]) -> str:
    return "".join(one.text for one in found if isinstance(one, Token))


def test_a_message_and_its_answer_are_stored(tmp_path: Path) -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"], [["one", Delta(reasoning="hm"), " two", END]])
        async with opened(tmp_path, provider) as chat:
            session, found = await ended(chat, Asked("hello  there", "p:m"))
            assert texts(found) == "one two"
            assert isinstance(found[-1], Ended)
            assert found[-1].metadata is not None
            assert (found[-1].finish_reason, found[-1].metadata.token_count) == ("stop", 2)
            question, answer = await chat.stored(session.conversation_id)
            assert (question.text, question.sender, question.llm_model) == ("hello  there", "user", "p:m")
            assert (answer.text, answer.sender, answer.model_provider) == ("one two", "llm", "p")
            assert (answer.partial, answer.finish_reason, answer.prompt_tokens) == (False, "stop", 3)
            conversation = await chat.database.conversations.get(question.conversation_id)
            assert (conversation.tab_name, conversation.llm_model) == ("hello there", "p:m")
            (usage,) = await chat.database.usage.list()
            assert (usage.requests, usage.failures, usage.completion_tokens, usage.first_tokens) == (1, 0, 2, 1)

    run(test)


def test_the_next_message_has_the_history_and_the_system_message(tmp_path: Path) -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"])
        async with opened(tmp_path, provider) as chat:
            made = await chat.database.conversations.create(llm_model="p:m", system="be kind")
            await ended(chat, Asked("a", conversation_id=made.id))
            await ended(chat, Asked("b", conversation_id=made.id))
            assert [(one.role, one.content) for one in provider.requests[-1].messages] == [
                *[("system", "be kind"), ("user", "a"), ("assistant", "one two"), ("user", "b")]
            ]
            given = (Message(role="user", content="x"), Message(role="assistant", content="y"))
            await ended(chat, Asked("c", conversation_id=made.id, history=given))
            assert [one.content for one in provider.requests[-1].messages] == ["be kind", "x", "y", "c"]

    run(test)


def test_nothing_is_stored_of_a_request_with_its_own_history(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path, Scripted("p", ["m"])) as chat:
            session, found = await ended(chat, Asked("a", "p:m", history=()))
            assert texts(found) == "one two"
            assert session.conversation_id is None
            assert await chat.database.conversations.count() == 0

    run(test)


@pytest.mark.parametrize("how", ["terminate", "leave"])
def test_an_answer_is_terminated_while_it_stalls(tmp_path: Path, how: str) -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"], [["one", None]])
        async with opened(tmp_path, provider) as chat:
            session = await chat.sessions.begin(Asked("a", "p:m"))
            if how == "terminate":
                reading = asyncio.create_task(events(session))
                await until(lambda: session.answer_id)
                assert chat.sessions.terminate(session.id, session.conversation_id)
                found = await reading
                assert isinstance(found[-1], Ended)
                assert found[-1].finish_reason == "terminated"
                assert texts(found) == "one"
            else:
                assert await next_token(session) == "one"  # the iterator is closed, as where a client leaves
                session.leave()
            await session.task
            assert provider.ended == 1
            answer = (await chat.stored(session.conversation_id))[-1]
            assert (answer.text, answer.partial, answer.finish_reason) == ("one", True, "terminated")
            (usage,) = await chat.database.usage.list()
            assert (usage.requests, usage.failures, usage.completion_tokens) == (1, 0, 1)
            assert not chat.sessions.terminate(session.id)

    run(test)


def test_an_answer_is_terminated_before_its_first_token(tmp_path: Path) -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"], [[None]])
        async with opened(tmp_path, provider) as chat:
            session = await chat.sessions.begin(Asked("a", "p:m"))
            await session.opened(0.01)
            assert chat.sessions.terminate(session.id)
            assert await events(session) == [Ended(None, "terminated")]
            assert provider.ended == 1

    run(test)


def test_only_the_own_answers_are_terminated(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path, Scripted("p", ["m"], [["one", None]])) as chat:
            session = await chat.sessions.begin(Asked("a", "p:m", owner="mine"))
            assert not chat.sessions.terminate(session.id, owner="other")
            assert not chat.sessions.terminate(session.id, "another conversation", owner="mine")
            assert not chat.sessions.terminate("session_0", owner="mine")
            assert chat.sessions.terminate(session.id, owner="mine")
            assert isinstance((await events(session))[-1], Ended)

    run(test)


def test_a_provider_that_fails_leaves_a_partial_answer(tmp_path: Path) -> None:
    async def test() -> None:
        gone = ProviderUnavailableError("p is gone", hint="Start it.", status=0)
        provider = Scripted("p", ["m"], [["one", gone], ["two", END]])
        async with opened(tmp_path, provider) as chat:
            session, found = await ended(chat, Asked("a", "p:m"))
            assert texts(found) == "one"
            assert found[-1] == Failed(gone)
            answer = (await chat.stored(session.conversation_id))[-1]
            assert (answer.text, answer.partial, answer.finish_reason) == ("one", True, "error")
            assert answer.error == "provider_unavailable"
            _, found = await ended(chat, Asked("b", conversation_id=session.conversation_id))
            assert isinstance(found[-1], Ended)
            assert [one.content for one in provider.requests[-1].messages] == ["a", "one", "b"]
            (usage,) = await chat.database.usage.list()
            assert (usage.requests, usage.failures, usage.completion_tokens) == (2, 1, 3)

    run(test)


def test_a_model_that_fails_at_once_keeps_the_message_and_the_model_of_the_conversation(tmp_path: Path) -> None:
    async def test() -> None:
        provider = Scripted("p", ["m", "other"])
        async with opened(tmp_path, provider) as chat:
            session, _ = await ended(chat, Asked("a", "p:m"))
            id = session.conversation_id
            assert id is not None
            failed = await chat.sessions.begin(Asked("b", "p:gone", conversation_id=id))
            with pytest.raises(ModelNotFoundError):
                await failed.opened(5)
            assert isinstance((await events(failed))[-1], Failed)
            assert [one.text for one in await chat.stored(id)] == ["a", "one two", "b", ""]
            assert (await chat.database.conversations.get(id)).llm_model == "p:m"
            await ended(chat, Asked("c", "p:other", conversation_id=id))
            assert [one.content for one in provider.requests[-1].messages] == ["a", "one two", "c"]
            assert (await chat.database.conversations.get(id)).llm_model == "p:other"

    run(test)


def test_a_fallback_is_a_notice_and_stored_with_the_model_that_answered(tmp_path: Path) -> None:
    async def test() -> None:
        models = {"p:m": ModelConfig(model_name="p:m", provider="p", fallback_models=("q:m",))}
        first, second = Scripted("p", ["m"], [[ProviderError("no")]]), Scripted("q", ["m"])
        async with opened(tmp_path, first, second, models=models) as chat:
            session, found = await ended(chat, Asked("a", "p:m"))
            assert isinstance(found[0], Notice)
            assert found[0].metadata.fallback == session.fallback
            assert "q:m answers in its place" in (session.fallback or "")
            answer = (await chat.stored(session.conversation_id))[-1]
            assert (answer.llm_model, answer.model_provider) == ("q:m", "q")
            assert (await chat.database.conversations.get(answer.conversation_id)).llm_model == "p:m"

    run(test)


def test_images_are_stored_and_given_to_models_that_read_them(tmp_path: Path) -> None:
    async def test() -> None:
        provider = Scripted("p", ["a-vision", "b"])
        async with opened(tmp_path, provider) as chat:
            session, _ = await ended(chat, Asked("look", "p:a-vision", images=(PIXEL,)))
            id = session.conversation_id
            assert (await chat.stored(id))[0].images[0].media_type == "image/png"
            await ended(chat, Asked("again", conversation_id=id))
            assert [one.images for one in provider.requests[-1].messages] == [(PIXEL,), (), ()]
            await ended(chat, Asked("in words", "p:b", conversation_id=id))
            assert not any(one.images for one in provider.requests[-1].messages)

    run(test)


def test_what_cannot_be_answered_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"])
        async with opened(tmp_path, provider) as chat:
            private = await chat.database.conversations.create(llm_model="p:m", password="secret", owner="mine")
            for asked, kind in (
                (Asked("a"), UsageError),
                (Asked("a", "nobody:m"), ProviderNotFoundError),
                (Asked("a", "unknown"), ModelNotFoundError),
                (Asked("a", conversation_id="none"), ConversationNotFoundError),
                (Asked("a", conversation_id=private.id, owner="mine"), ConversationAccessError),
                (Asked("a", conversation_id=private.id, owner="mine", password="?"), ConversationAccessError),
                (Asked("a", conversation_id=private.id, owner="other", password="secret"), ConversationAccessError),
            ):
                with pytest.raises(kind):
                    await chat.sessions.begin(asked)
            assert not provider.requests
            assert await chat.database.conversations.count() == 1
            _, found = await ended(chat, Asked("a", conversation_id=private.id, owner="mine", password="secret"))
            assert isinstance(found[-1], Ended)

    run(test)


def test_a_server_that_stops_ends_answers_with_an_error(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path, Scripted("p", ["m"], [["one", None]])) as chat:
            session = await chat.sessions.begin(Asked("a", "p:m"))
            await until(lambda: session.answer_id)
            await chat.sessions.close(STOPPING)
            assert (await events(session))[-1] == Failed(STOPPING)
            answer = (await chat.stored(session.conversation_id))[-1]
            assert (answer.text, answer.partial, answer.error) == ("one", True, "overloaded")

    run(test)


def test_a_conversation_that_is_deleted_while_it_is_answered(tmp_path: Path) -> None:
    async def test() -> None:
        gate = asyncio.Event()

        class Waiting(Scripted):
            async def _stream(self, request: Any) -> Any:
                yield Delta(text="one")
                await gate.wait()
                yield END

        async with opened(tmp_path, Waiting("p", ["m"])) as chat:
            session = await chat.sessions.begin(Asked("a", "p:m"))
            await until(lambda: session.answer_id)
            assert session.conversation_id is not None
            await chat.database.conversations.delete(session.conversation_id)
            gate.set()
            assert isinstance((await events(session))[-1], Ended)
            assert await chat.stored(session.conversation_id) == []

    run(test)


def test_a_database_that_another_program_locks_is_an_error_and_ends_the_generation(tmp_path: Path) -> None:
    async def test() -> None:
        provider = Scripted("p", ["m"], [["one", None]])
        async with opened(tmp_path, provider) as chat:
            path = chat.database.address.path
            assert path is not None
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(DatabaseError, match="another program locked it"):
                await chat.sessions.begin(Asked("a", "p:m"))
            assert provider.ended == len(provider.requests)
            other.execute("ROLLBACK")
            other.close()
            session = await chat.sessions.begin(Asked("a", "p:m"))
            assert await next_token(session) == "one"

    run(test)


def test_a_slow_reader_gets_every_token(tmp_path: Path) -> None:
    async def test() -> None:
        words = [f"{number} " for number in range(500)]
        async with opened(tmp_path, Scripted("p", ["m"], [[*words, END]])) as chat:
            session = await chat.sessions.begin(Asked("a", "p:m"))
            await asyncio.sleep(0.05)
            found = await events(session)
            assert texts(found) == "".join(words)
            await session.task
            assert (await chat.stored(session.conversation_id))[-1].text == "".join(words)

    run(test)


def test_turns_without_an_answer_are_left_out_of_the_history() -> None:
    def row(number: int, sender: Any, text: str) -> StoredMessage:
        return StoredMessage(id=number, conversation_id="c", text=text, sender=sender, created_at=None)  # type: ignore[arg-type]

    rows = [row(1, "user", "a"), row(2, "user", "b"), row(3, "llm", "B"), row(4, "user", "c"), row(5, "llm", "")]
    rows += [row(6, "user", "d"), row(7, "llm", "D"), row(8, "llm", "E"), row(9, "user", "e")]
    assert [one.text for one in answered(rows)] == ["b", "B", "d", "D", "E"]
