"""Conversations and messages: what is stored is read, and only by whom it may be."""

from __future__ import annotations

import asyncio

import pytest

from gpux.chat.database.database import Database
from gpux.chat.database.passwords import ATTEMPTS
from gpux.chat.values import Image
from gpux.errors import ConversationAccessError, ConversationNotFoundError, InputError, TooManyAttemptsError, UsageError
from tests.chat.database.conftest import Using

PNG = Image(data=b"\x89PNG\r\n\x1a\n" + bytes(range(256)), media_type="image/png")
GIF = Image(data=b"GIF89a", media_type="image/gif")


def test_a_conversation_is_read_as_it_was_created(using: Using) -> None:
    async def test(database: Database) -> None:
        made = await database.conversations.create(
            id="mine", tab_name="Grüße 👋", llm_model="hf:org/a:int4", model_provider="huggingface", system="Be kind."
        )
        assert await database.conversations.get("mine") == made
        assert (made.created_at.utcoffset(), made.updated_at) == (made.updated_at.utcoffset(), made.created_at)
        other = await database.conversations.create(tab_name="second")
        assert other.id != "mine"
        assert [one.id for one in await database.conversations.list()] == [other.id, "mine"]
        assert await database.conversations.count() == 2
        await database.conversations.add_message("mine", "Hello")
        assert [one.id for one in await database.conversations.list()] == ["mine", other.id]
        assert [one.id for one in await database.conversations.list(limit=1, offset=1)] == [other.id]
        assert (await database.conversations.get("mine")).message_count == 1

    using(test)


def test_messages_have_the_order_in_which_they_came(using: Using) -> None:
    async def test(database: Database) -> None:
        chat = await database.conversations.create()
        for number in range(5):
            await database.conversations.add_message(chat.id, str(number))
        found = await database.conversations.messages(chat.id)
        assert [one.text for one in found] == list("01234")
        assert [one.id for one in found] == sorted(one.id for one in found)
        assert [one.text for one in await database.conversations.messages(chat.id, limit=2)] == ["3", "4"]
        assert await database.conversations.messages("unknown") == []

    using(test)


def test_images_are_stored_with_their_message(using: Using) -> None:
    async def test(database: Database) -> None:
        chat = await database.conversations.create()
        message = await database.conversations.add_message(chat.id, "Look", images=(PNG, GIF))
        await database.conversations.add_message(chat.id, "No picture")
        assert message.has_images
        first, second = message.images
        assert (first.media_type, first.size, second.media_type) == ("image/png", len(PNG.data), "image/gif")
        assert await database.images.get(first.id) == (chat.id, PNG)
        assert await database.images.get("guessed") is None
        assert (await database.conversations.messages(chat.id))[0] == message
        assert await database.images.of_messages([message.id, message.id + 1]) == {message.id: [PNG, GIF]}
        await database.conversations.delete(chat.id)
        assert await database.images.get(first.id) is None

    using(test)


def test_a_private_conversation_needs_its_password(using: Using) -> None:
    async def test(database: Database) -> None:
        chat = await database.conversations.create(tab_name="secret", password="correct horse", system="Hidden.")
        assert chat.is_private
        assert (await database.conversations.get(chat.id, "correct horse")).tab_name == "secret"
        for wrong in (None, "", "Correct horse", "correct horse\x00", "x" * 5000, "\ud800"):
            with pytest.raises(ConversationAccessError) as caught:
                await database.conversations.get(chat.id, wrong)
            assert "horse" not in str(caught.value)
        listed = str((await database.conversations.list())[0].to_dict())
        assert "password" not in listed
        assert "Hidden." not in listed

    using(test)


def test_passwords_cannot_be_found_by_trying(using: Using, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(database: Database) -> None:
        get = database.conversations.get
        for id in ("a", "b"):
            await database.conversations.create(id=id, password="right")
        wrong = await asyncio.gather(*(get("a", f"wrong {number}") for number in range(30)), return_exceptions=True)
        kinds = [type(error) for error in wrong]
        assert kinds.count(ConversationAccessError) in (ATTEMPTS, ATTEMPTS + 1), "two are tried at the same time"
        assert kinds.count(ConversationAccessError) + kinds.count(TooManyAttemptsError) == 30
        with pytest.raises(TooManyAttemptsError) as caught:
            await get("a", "right")
        assert 1 <= caught.value.details["retry_after"] <= 60
        await get("b", "right")
        monkeypatch.setattr("gpux.chat.database.passwords.MINUTE", 0.0)  # a minute later
        await get("a", "right")

    using(test)


def test_a_conversation_of_another_key_is_refused(using: Using) -> None:
    async def test(database: Database) -> None:
        await database.conversations.create(id="hers", owner="key-a")
        await database.conversations.create(id="everyone's")
        assert (await database.conversations.get("hers", owner="key-a")).owner == "key-a"
        assert (await database.conversations.get("hers")).owner == "key-a"
        with pytest.raises(ConversationAccessError):
            await database.conversations.get("hers", owner="key-b")
        assert [one.id for one in await database.conversations.list(owner="key-b")] == ["everyone's"]
        assert await database.conversations.count(owner="key-a") == 2

    using(test)


def test_a_conversation_is_changed_and_deleted(using: Using) -> None:
    async def test(database: Database) -> None:
        await database.conversations.create(id="a", tab_name="before", llm_model="ollama:x", model_provider="ollama")
        await database.conversations.update("a", llm_model="hf:org/b", model_provider="huggingface")
        changed = await database.conversations.get("a")
        assert (changed.tab_name, changed.llm_model, changed.model_provider) == ("before", "hf:org/b", "huggingface")
        await database.conversations.add_message("a", "Hello")
        await database.conversations.delete("a")
        assert await database.conversations.messages("a") == []
        for use in (
            database.conversations.get("a"),
            database.conversations.delete("a"),
            database.conversations.update("a", tab_name="x"),
            database.conversations.add_message("a", "x"),
            database.answers.begin("a"),
            database.conversations.get("nul\x00"),
        ):
            with pytest.raises(ConversationNotFoundError):
                await use

    using(test)


def test_messages_after_one_are_deleted(using: Using) -> None:
    async def test(database: Database) -> None:
        chat, other = await database.conversations.create(), await database.conversations.create()
        first, *rest = [await database.conversations.add_message(chat.id, text) for text in "abcd"]
        kept = await database.conversations.add_message(other.id, "kept")
        assert await database.conversations.delete_messages_after(chat.id, rest[0].id) == 2
        assert [one.text for one in await database.conversations.messages(chat.id)] == ["a", "b"]
        assert await database.conversations.delete_messages_after(chat.id, first.id, inclusive=True) == 2
        assert await database.conversations.messages(chat.id) == []
        assert len(await database.conversations.messages(other.id)) == 1
        for wrong in (kept.id, first.id, 0, -1, 2**63, 2**80):
            with pytest.raises(ConversationNotFoundError):
                await database.conversations.delete_messages_after(chat.id, wrong)

    using(test)


def test_what_no_database_stores_is_refused(using: Using) -> None:
    async def test(database: Database) -> None:
        chat = await database.conversations.create()
        for text in ("a\x00b", "half \ud83d"):
            with pytest.raises(InputError):
                await database.conversations.add_message(chat.id, text)
            for field in ("tab_name", "llm_model", "model_provider", "system"):
                with pytest.raises(UsageError):
                    await database.conversations.update(chat.id, **{field: text})
        for id in ("", " ", "a b", "x" * 201, "nul\x00", "\ud800", chat.id):
            with pytest.raises(UsageError):
                await database.conversations.create(id=id)
        with pytest.raises(UsageError):
            await database.conversations.create(tab_name="x" * 501)
        for password in ("", "x" * 1025):
            with pytest.raises(UsageError):
                await database.conversations.create(password=password)
        assert await database.conversations.count() == 1

    using(test)


def test_a_message_of_ten_megabytes_is_stored(using: Using) -> None:
    async def test(database: Database) -> None:
        chat = await database.conversations.create()
        text = "ü' \"; DROP TABLE messages; --\n" * 350_000
        await database.conversations.add_message(chat.id, text)
        (stored,) = await database.conversations.messages(chat.id)
        assert stored.text == text

    using(test)
