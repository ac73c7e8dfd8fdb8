"""Chats of the command line in the database of conversations."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import click

from gpux.cli.terminal import Terminal
from gpux.errors import ConversationAccessError, GpuxError, UsageError
from gpux.model.reference import ModelRef

if TYPE_CHECKING:
    from gpux.chat.database.database import Database
    from gpux.chat.database.values import Conversation, EndReason, Sender
    from gpux.runtime.generation.results import Generation

T = TypeVar("T")
_TITLE = 60  #: characters of a message that become the title of a conversation
_LONGEST = 4096  #: bytes of a file with a password
#: The prefix of the models of this machine, and the name of their chat provider.
_PREFIX, _PROVIDER = "hf:", "huggingface"

database_options = click.option(
    "--database",
    "url",
    metavar="URL",
    help="sqlite:///file.db or postgresql://…; default: the configured one, else conversations.db in GPUX_HOME.",
)
password_option = click.option(
    "--password-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the password of a private conversation.",
)


def read_password(file: Path | None) -> str | None:
    """The first line of a file with a password.

    Raises:
        UsageError: the file is empty.
    """
    if file is None:
        return None
    with file.open(encoding="utf-8") as opened:
        password = opened.readline(_LONGEST).rstrip("\r\n")
    if not password:
        raise UsageError(f"{file} has no password", hint="Write the password into its first line.")
    return password


def database_url(terminal: Terminal, url: str | None) -> str | None:
    """The database that was named, else the one of the configuration; None: the file in gpux's folder.

    Raises:
        ConfigurationError: the configuration is invalid.
    """
    if url is not None:
        return url
    from gpux.chat.configuration import ModelConfigurationService

    service = ModelConfigurationService(terminal.settings)
    return service.current.database_url if service.configured else None


def with_database(terminal: Terminal, url: str | None, work: Callable[[Database], Awaitable[T]]) -> T:
    """Call ``work`` with the opened database."""
    from gpux.chat.database import open_database

    chosen = database_url(terminal, url)

    async def run() -> T:
        database = await open_database(chosen, terminal.settings)
        try:
            return await work(database)
        finally:
            await database.aclose()

    return asyncio.run(run())


class SavedChat:
    """The conversation that a chat is stored in; a context manager.

    The database has an event loop in a thread of its own, so that answers are written while the model computes. What
    cannot be written at the end of an answer is reported, and the chat goes on.

    Args:
        terminal: where remarks go.
        url: of the database, as typed.
        id: of the conversation to continue; None: a new one, from the first message on.
        password: of a private conversation; a new one with it is private.

    Raises:
        ConversationNotFoundError: there is no such conversation.
        ConversationAccessError: it is private, and the password is missing or wrong.
        DatabaseError: the database cannot be used.
    """

    def __init__(self, terminal: Terminal, url: str | None, id: str | None = None, password: str | None = None) -> None:
        from gpux.chat.database import open_database

        self._terminal, self._password = terminal, password
        self._conversation: Conversation | None = None
        self._model: str | None = None
        self._system: str | None = None
        self._earlier: list[dict[str, Any]] = []  # messages that a new conversation begins with
        self._question: int | None = None  # id of the last message of the user
        self._answer: int | None = None  # id of the answer to it
        self._before: tuple[int | None, int | None] = (None, None)  # the two before the last message
        self._replaced: int | None = None  # the answer that a retry replaces
        self._failed: int | None = None  # a message whose answer failed, and that the chat does not have any more
        chosen = database_url(terminal, url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._database = self._wait(open_database(chosen, terminal.settings))
        except BaseException:
            self._end_loop()
            raise
        try:
            if id is not None:
                self._conversation = self._wait(self._database.conversations.get(id, password))
                self._system = self._conversation.system
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if self._conversation is not None:
            self._terminal.say(f"The chat is stored: gpux chat --conversation {self._conversation.id} continues it.")

    def _close(self) -> None:
        try:
            self._reported(self._database.aclose())
        finally:
            self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _reported(self, work: Coroutine[Any, Any, object]) -> None:
        """Wait for it, and report its error."""
        try:
            self._wait(work)
        except GpuxError as exc:
            self._terminal.warn(str(exc), exc.hint)

    # The beginning

    @property
    def ref(self) -> str | None:
        """The model of the conversation, as it is typed; None: it has none.

        Raises:
            UsageError: another chat provider answers it.
        """
        if self._conversation is None or self._conversation.llm_model is None:
            return None
        provider, model = self._conversation.model_provider, self._conversation.llm_model
        if provider not in (None, _PROVIDER):
            raise UsageError(
                f"{model} of the chat provider {provider!r} answers this conversation, and not a model of this machine",
                hint=f"Name one to continue with: gpux chat org/name --conversation {self._conversation.id}",
            )
        return self._of_this_machine(model.removeprefix(_PREFIX))

    def _of_this_machine(self, name: str) -> str:
        """The reference for a name of a server, which calls the model of a local folder by its folder's name alone."""
        from gpux.server.names import Names

        found = Names(self._terminal.settings.store).get(name)
        if found is None or found.manifest.scheme != "local":
            return name
        return str(replace(ModelRef.parse(name), scheme="local", id=found.id))

    @property
    def system(self) -> str | None:
        """The system message of the conversation."""
        return self._system

    def messages(self) -> list[dict[str, Any]]:
        """The messages that a model gets: those without an answer are left out."""
        from gpux.chat.streams import answered

        if self._conversation is None:
            return []
        stored = answered(self._wait(self._database.conversations.messages(self._conversation.id)))
        for one in stored:
            if one.sender == "user":
                self._question = one.id
            else:
                self._answer = one.id
        return [{"role": "user" if one.sender == "user" else "assistant", "content": one.text} for one in stored]

    def use(self, ref: str, system: str | None) -> None:
        """Store the model that answers, and the system message, with the conversation."""
        self._model, self._system = f"{_PREFIX}{ref}", system
        if self._conversation is not None:
            update, id = self._database.conversations.update, self._conversation.id
            self._wait(update(id, llm_model=self._model, model_provider=_PROVIDER, system=system))

    # While it goes on

    def restart(self, messages: Sequence[dict[str, Any]] = (), system: str | None = None) -> None:
        """Let the next message begin a new conversation, after these messages."""
        if self._conversation is not None:
            self._terminal.say(f"The conversation {self._conversation.id} stays; the next message begins another one.")
        self._conversation = self._question = self._answer = self._failed = None
        self._earlier, self._system = list(messages), system

    def change_system(self, text: str) -> None:
        """Store another system message."""
        self._system = text
        if self._conversation is not None:
            self._wait(self._database.conversations.update(self._conversation.id, system=text))

    def ask(self, text: str) -> None:
        """Store a message of the user, and an answer that is empty so far.

        Raises:
            GpuxError: the database cannot be written.
        """
        self._wait(self._ask(text))

    def ask_again(self) -> None:
        """Store another answer to the last message; it replaces the first one when it is complete.

        Raises:
            GpuxError: the database cannot be written.
        """
        self._wait(self._ask(None))

    async def _ask(self, text: str | None) -> None:
        conversation = self._conversation or await self._created(text)
        conversations = self._database.conversations
        if text is None and self._failed is not None:
            await conversations.delete_messages_after(conversation.id, self._failed, inclusive=True)
        self._failed, self._replaced = None, self._answer if text is None else None
        self._before = (self._question, self._answer)
        if text is not None:
            self._question = (await conversations.add_message(conversation.id, text)).id
        begin = self._database.answers.begin
        try:
            self._answer = await begin(conversation.id, llm_model=self._model, model_provider=_PROVIDER)
        except BaseException:
            self._forget_question()
            raise

    def _forget_question(self) -> None:
        """Go back to the message before the last one, which the chat does not have any more."""
        if self._replaced is None:
            self._failed = self._question
        self._question, self._answer = self._before

    async def _created(self, text: str | None) -> Conversation:
        words = text or next((str(one["content"]) for one in self._earlier if one["role"] == "user"), "")
        title = "".join(one for one in " ".join(words.split())[:_TITLE] if one.isprintable())
        conversations = self._database.conversations
        made = await conversations.create(
            tab_name=title,
            llm_model=self._model,
            model_provider=_PROVIDER,
            system=self._system,
            password=self._password,
        )
        self._conversation = made
        for message in self._earlier:
            sender: Sender = "user" if message["role"] == "user" else "llm"
            stored = await conversations.add_message(made.id, str(message["content"]), sender=sender)
            if sender == "user":
                self._question, self._answer = stored.id, None
            else:
                self._answer = stored.id
        self._earlier = []
        return made

    def piece(self, text: str) -> None:
        """Add to the answer; it is written within a quarter of a second."""
        assert self._answer is not None
        self._loop.call_soon_threadsafe(self._database.answers.append, self._answer, text)

    def finish(self, result: Generation) -> None:
        """Store the end of the answer."""
        reasons: dict[str, EndReason] = {"length": "length", "cancelled": "terminated", "deadline": "terminated"}
        reason = reasons.get(result.finish_reason, "stop")
        self._reported(self._end(reason, None, result.prompt_tokens, len(result.tokens)))

    def fail(self, exc: BaseException) -> None:
        """Store that the answer ended with an error; of a retry, the first answer stays."""
        if self._replaced is not None:
            self.withdraw()
        else:
            code = exc.code if isinstance(exc, GpuxError) else None
            self._reported(self._end("error" if isinstance(exc, Exception) else "terminated", code))
            self._forget_question()

    def withdraw(self) -> None:
        """Delete the last message and its answer; of a retry, the second answer."""
        self._reported(self._withdraw())

    async def _end(
        self,
        reason: EndReason,
        error: str | None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
    ) -> None:
        if self._answer is None or self._conversation is None:  # it failed before it was stored
            return
        await self._database.answers.finish(
            self._answer,
            finish_reason=reason,
            error=error,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )
        if self._replaced is not None:
            await self._database.conversations.delete_message(self._conversation.id, self._replaced)

    async def _withdraw(self) -> None:
        if self._answer is None or self._question is None or self._conversation is None:
            return
        conversations, id = self._database.conversations, self._conversation.id
        await self._database.answers.finish(self._answer, finish_reason="terminated")
        if self._replaced is not None:
            await conversations.delete_message(id, self._answer)
            self._answer = self._replaced
        else:
            await conversations.delete_messages_after(id, self._question, inclusive=True)
            self._question, self._answer = self._before


def open_saved_chat(terminal: Terminal, url: str | None, id: str | None, password_file: Path | None) -> SavedChat:
    """The conversation of a chat; the password of a private one is asked for on a terminal.

    Raises:
        GpuxError: as :class:`SavedChat`.
    """
    password = read_password(password_file)
    try:
        return SavedChat(terminal, url, id, password)
    except ConversationAccessError as exc:
        if password is not None or not terminal.interactive:
            raise ConversationAccessError(exc.message, hint="Add --password-file FILE.", **exc.details) from exc
        terminal.say(str(exc))
    return SavedChat(terminal, url, id, ask_password())


def ask_password() -> str:
    """Ask for a password on the terminal."""
    given: str = click.prompt("Password (it is not shown)", hide_input=True, err=True)
    return given
