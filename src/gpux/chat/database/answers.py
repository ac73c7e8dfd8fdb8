"""Answers that arrive in pieces: stored from their start, flagged as partial until their end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, update

from gpux.chat.database.connections import Connections
from gpux.chat.database.conversations import (
    append_message,
    checked_text,
    conversation_row,
    insert_conversation,
    storable,
    with_images,
)
from gpux.chat.database.tables import messages
from gpux.chat.database.values import EndReason, StoredMessage
from gpux.chat.values import Image
from gpux.errors import ConversationNotFoundError, GpuxError

log = logging.getLogger(__name__)
#: An answer whose end was written in the meantime keeps its text.
_IN_PROGRESS = (messages.c.id == bindparam("answer")) & messages.c.finish_reason.is_(None)
_WRITE_TEXT = update(messages).where(_IN_PROGRESS).values(text=bindparam("so_far"))


@dataclass
class _Open:
    """An answer that has not ended."""

    pieces: list[str] = field(default_factory=list)
    unwritten: bool = False  #: pieces came since the last write
    ending: dict[str, Any] | None = None  #: columns to write with the whole text; its first write failed

    def text(self) -> str:
        self.pieces[:] = ["".join(self.pieces)]
        return self.pieces[0]


@dataclass(frozen=True)
class Exchange:
    """A stored message and its answer that has begun."""

    conversation_id: str
    question_id: int
    answer_id: int


class Answers:
    """Answers in progress of this process.

    :meth:`append` keeps a piece in memory. All answers that got pieces are written together, in one transaction every
    ``flush_ms`` milliseconds, so that a process that is killed loses at most that time and one write of each answer.
    Where a write fails, the answers continue, and the next write has the missing pieces too.
    """

    def __init__(self, connections: Connections, flush_ms: int) -> None:
        self._connections = connections
        self._interval = flush_ms / 1000
        self._open: dict[int, _Open] = {}
        self._ticking: asyncio.Task[None] | None = None
        self._flushing = asyncio.Lock()
        self._closing = asyncio.Event()
        self._failing = False

    async def begin(
        self, conversation_id: str, *, llm_model: str | None = None, model_provider: str | None = None
    ) -> int:
        """Store an empty answer, flagged as partial, at the end of a conversation; its id.

        Raises:
            ConversationNotFoundError: there is no such conversation.
            DatabaseError: the database cannot be written.
        """
        values = _empty(conversation_id, llm_model, model_provider)
        message = await self._connections.write(lambda connection: append_message(connection, values))
        return self._begun(message.id)

    async def ask(
        self,
        conversation_id: str | None,
        text: str,
        *,
        images: Sequence[Image] = (),
        llm_model: str | None = None,
        model_provider: str | None = None,
        tab_name: str = "",
        owner: str | None = None,
    ) -> Exchange:
        """Store a message of the user and begin its answer, in one transaction.

        Args:
            conversation_id: that both are added to; None: a new one.
            text: of the message.
            images: of the message.
            llm_model: that answers; of a new conversation, the model of later messages too.
            model_provider: of ``llm_model``.
            tab_name: title of a new conversation.
            owner: of a new conversation, as of :meth:`Conversations.create`.

        Raises:
            InputError: the text has characters that no database stores.
            ConversationNotFoundError: there is no such conversation.
            DatabaseError: the database cannot be written.
        """
        new = None
        if conversation_id is None:
            new = conversation_row(None, tab_name, llm_model, model_provider, None, owner)
        id = conversation_id if new is None else str(new["id"])
        assert id is not None
        question = {**_empty(id, llm_model, model_provider), "sender": "user", "partial": False}
        question |= {"text": checked_text(text), "has_images": bool(images)}

        def work(connection: Connection) -> tuple[int, int]:
            if new is not None:
                insert_conversation(connection, new)
            asked = append_message(connection, question, images, touched=new is not None)
            answer = append_message(connection, _empty(id, llm_model, model_provider), touched=True)
            return asked.id, answer.id

        asked, answer = await self._connections.write(work)
        return Exchange(id, asked, self._begun(answer))

    def _begun(self, id: int) -> int:
        self._open[id] = _Open()
        if self._ticking is None or self._ticking.done():
            self._ticking = asyncio.create_task(self._tick())
        return id

    def append(self, id: int, text: str) -> None:
        """Add a piece to an answer in progress; it is written within ``flush_ms``.

        Raises:
            KeyError: the answer has ended.
        """
        answer = self._open[id]
        answer.pieces.append(storable(text))
        answer.unwritten = True

    async def flush(self) -> None:
        """Write all pieces now.

        Raises:
            DatabaseError: the database cannot be written; the pieces are written later.
            DiskFullError: no space.
        """
        async with self._flushing:  # an earlier text must not be written after a later one
            await self._write_texts()

    async def _write_texts(self) -> None:
        waiting = {id: answer for id, answer in self._open.items() if answer.unwritten and answer.ending is None}
        for answer in waiting.values():
            answer.unwritten = False
        rows = [{"answer": id, "so_far": answer.text()} for id, answer in waiting.items()]
        try:
            if rows:
                await self._connections.write(lambda connection: _execute(connection, rows))
        except BaseException:
            for answer in waiting.values():
                answer.unwritten = True
            raise

    async def finish(
        self,
        id: int,
        *,
        finish_reason: EndReason = "stop",
        error: str | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        llm_model: str | None = None,
        model_provider: str | None = None,
    ) -> StoredMessage:
        """Write the end of an answer, complete also where the caller is cancelled.

        Args:
            id: of the answer.
            finish_reason: ``stop`` and ``length`` make it a whole answer; it stays flagged as partial otherwise.
            error: code of the error that ended it.
            prompt_tokens: None: not known.
            completion_tokens: None: not known.
            llm_model: that answered; None: the one that it began with.
            model_provider: of ``llm_model``.

        Raises:
            ConversationNotFoundError: the message was deleted in the meantime.
            DatabaseError: the database cannot be written. The end is written later, while this process lives.
            DiskFullError: no space.
            KeyError: the answer has ended before.
        """
        answer = self._open[id]
        ending = {
            "partial": finish_reason not in ("stop", "length"),
            "finish_reason": finish_reason,
            "error": error,
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
        }
        if llm_model is not None:
            ending |= {"llm_model": llm_model, "model_provider": model_provider}
        try:
            return await self._end(id, answer, ending)
        except BaseException:
            answer.ending = ending
            raise

    async def _end(self, id: int, answer: _Open, ending: dict[str, Any]) -> StoredMessage:
        values = {**ending, "text": answer.text()}

        def work(connection: Connection) -> StoredMessage | None:
            written = update(messages).where(messages.c.id == id).values(values).returning(messages)
            rows = connection.execute(written).all()
            return next(iter(with_images(connection, rows)), None)

        stored = await self._connections.write(work)
        self._open.pop(id, None)
        if stored is None:
            raise ConversationNotFoundError(
                f"the message {id} was deleted before its answer ended", hint="gpux conversations list"
            )
        return stored

    async def _tick(self) -> None:
        """Write what is to be written, until no answer is in progress."""
        while self._open and not self._closing.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._interval)
            try:
                await self._write_all()
                self._failing = False
            except GpuxError as exc:
                if not self._failing:
                    log.warning("answers in progress could not be stored, and are tried again: %s", exc)
                self._failing = True

    async def _write_all(self) -> None:
        await self.flush()
        for id, answer in list(self._open.items()):
            if answer.ending is not None:
                with suppress(ConversationNotFoundError):
                    await self._end(id, answer, answer.ending)

    async def aclose(self) -> None:
        """Write what is to be written, a last time; answers in progress stay flagged as partial.

        Raises:
            DatabaseError: the database cannot be written.
        """
        self._closing.set()
        if self._ticking is not None:
            await self._ticking
        await self._write_all()
        self._open.clear()


def _empty(conversation_id: str, llm_model: str | None, model_provider: str | None) -> dict[str, Any]:
    """The columns of an answer without text."""
    return {
        "conversation_id": conversation_id,
        "text": "",
        "sender": "llm",
        "llm_model": llm_model,
        "model_provider": model_provider,
        "partial": True,
    }


def _execute(connection: Connection, rows: list[dict[str, Any]]) -> None:
    connection.execute(_WRITE_TEXT, rows)
