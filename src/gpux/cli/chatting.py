"""What happens in ``gpux chat`` once the model is open: messages in, answers out, and what is typed besides."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpux.cli.chat_files import read_messages, write_messages
from gpux.cli.generating import described, figures, print_piece, stopped_by_interrupt
from gpux.cli.reading import Lines
from gpux.cli.terminal import Terminal
from gpux.errors import GpuxError, UsageError
from gpux.system.cancel import CancelToken

if TYPE_CHECKING:
    from gpux.pipelines.generation.text_generation import TextGenerationPipeline
    from gpux.runtime.generation.results import Generation


class Chat:
    """One chat with one model.

    Args:
        terminal: where answers and remarks go.
        pipe: gives the answers.
        options: of every answer.
        system: the system message, if any.
        stats: say after each answer how fast it was.
        lines: where messages come from; by default standard input.

    Raises:
        ChatTemplateError: the model has no chat template, and none was given.
    """

    def __init__(
        self,
        terminal: Terminal,
        pipe: TextGenerationPipeline,
        options: dict[str, Any],
        *,
        system: str | None = None,
        stats: bool = False,
        lines: Lines | None = None,
    ) -> None:
        pipe.chat_template.choose(options.get("chat_template"))  # no chat is begun that cannot be had
        self._terminal, self._pipe, self._options, self._stats = terminal, pipe, options, stats
        self._lines = lines or Lines(terminal)
        self._system = system
        self._messages: list[dict[str, Any]] = []
        self._last: Generation | None = None
        self._retries = 0
        self._interrupted = False  # by Ctrl-C, and nothing was typed since

    def run(self) -> None:
        """Answer until there is nothing more to read, or the user leaves."""
        if not self._lines.interactive:
            for message in self._lines.piped():
                self._answer_to(message)
            return
        self._terminal.say("/help lists what can be typed besides messages; Ctrl-D leaves.")
        while (text := self._typed()) is not None:
            try:
                if not self._obeyed(text):
                    self._answer_to(text.removeprefix("/") if text.startswith("//") else text)
            except _Leave:
                return
            except (GpuxError, OSError) as exc:
                self._terminal.warn(str(exc), getattr(exc, "hint", None))
            except KeyboardInterrupt:  # between an answer and the next prompt
                self._interrupted = True

    def _typed(self) -> str | None:
        """The next message or command that is not empty; None at the end, or after Ctrl-C twice at an empty prompt."""
        while True:
            try:
                text = self._lines.read()
            except EOFError:
                self._terminal.say("")  # the shell's prompt begins a line
                return None
            except KeyboardInterrupt:
                self._terminal.say("")
                if self._lines.begun:
                    continue
                if self._interrupted:
                    return None
                self._interrupted = True
                self._terminal.say("Ctrl-C once more, or Ctrl-D, leaves.")
                continue
            self._interrupted = False
            if text.strip():
                return text

    def _answer_to(self, text: str) -> None:
        self._messages.append({"role": "user", "content": text})
        self._retries = 0
        self._answer()

    def _answer(self) -> None:
        """Answer the last message. Where that fails, or is stopped before a word came, the message is taken back."""
        try:
            result = self._written()
        except BaseException:
            self._messages.pop()
            raise
        self._last = result
        if result.text or result.finish_reason != "cancelled":
            self._messages.append({"role": "assistant", "content": result.text})
        else:
            self._messages.pop()
            self._terminal.say("Stopped before the first word; your message is taken back.")
        if self._stats:
            self._terminal.say(described(result))

    def _written(self) -> Generation:
        token, whole = CancelToken(), self._terminal.as_json
        with self._stoppable(token), self._pipe.stream(self._all(), cancel=token, **self._chosen()) as stream:
            for piece in stream:
                if not whole:
                    print_piece(piece)
            result = stream.result
        if whole:
            self._terminal.data({"role": "assistant", "content": result.text, **figures(result)}, compact=True)
        else:
            click.echo()
        return result

    def _all(self) -> list[dict[str, Any]]:
        return [*([] if self._system is None else [{"role": "system", "content": self._system}]), *self._messages]

    def _chosen(self) -> dict[str, Any]:
        """The options; another seed for another try, which would draw the same again."""
        if self._retries and "seed" in self._options:
            return {**self._options, "seed": self._options["seed"] + self._retries}
        return self._options

    def _stoppable(self, token: CancelToken) -> AbstractContextManager[None]:
        """Ctrl-C sets the token; in a pipe it ends the program as ever."""
        return stopped_by_interrupt(token, self._note_interrupt) if self._lines.interactive else nullcontext()

    def _note_interrupt(self) -> None:
        self._interrupted = True

    # What is typed besides messages

    def _obeyed(self, text: str) -> bool:
        """Do what a line that begins with one slash says; False for a message."""
        if not text.startswith("/") or text.startswith("//"):
            return False
        name, _, rest = text[1:].partition(" ")
        if name not in self._commands():
            near = difflib.get_close_matches(name, self._commands(), n=1)
            raise UsageError(
                f"no command /{name}" + (f"; did you mean /{near[0]}?" if near else ""),
                hint="/help lists them; a message that begins with a slash is typed with two.",
            )
        self._commands()[name](rest.strip())
        return True

    def _commands(self) -> dict[str, Callable[[str], None]]:
        return {
            "help": self._help,
            "clear": self._clear,
            "system": self._set_system,
            "retry": self._retry,
            "stats": self._show_stats,
            "save": self._save,
            "load": self._load,
            "exit": _leave,
            "quit": _leave,
            "bye": _leave,
        }

    def _help(self, _: str) -> None:
        self._terminal.say(HELP)

    def _clear(self, _: str) -> None:
        self._messages.clear()
        self._terminal.say("The chat is forgotten" + ("." if self._system is None else "; the system message stays."))

    def _set_system(self, text: str) -> None:
        if text:
            self._system = text
        self._terminal.say(f"System message: {self._system}" if self._system else "There is no system message.")

    def _retry(self, _: str) -> None:
        if not self._messages:
            raise UsageError("there is no message to answer again")
        kept = list(self._messages)
        if self._messages[-1]["role"] == "assistant":
            self._messages.pop()
        self._retries += 1
        try:
            self._answer()
        except BaseException:
            self._messages = kept
            raise
        if not self._messages or self._messages[-1]["role"] != "assistant":
            self._messages = kept

    def _show_stats(self, _: str) -> None:
        self._terminal.say("There was no answer yet." if self._last is None else described(self._last))

    def _save(self, file: str) -> None:
        path = _path(file, "/save")
        if not self._messages:
            raise UsageError("there is no message to save")
        write_messages(path, self._all())
        self._terminal.say(f"{len(self._all())} messages are in {path}.")

    def _load(self, file: str) -> None:
        path = _path(file, "/load")
        found = read_messages(path)
        self._system = found.pop(0)["content"] if found[0]["role"] == "system" else None
        self._messages = found
        self._terminal.say(f"{len(found)} messages from {path}.")


class _Leave(Exception):
    """The user leaves."""


def _leave(_: str) -> None:
    raise _Leave


def _path(file: str, typed: str) -> Path:
    if not file:
        raise UsageError(f"{typed} needs a file", hint=f"{typed} chat.json")
    with suppress(RuntimeError):  # a home that is not known
        return Path(file).expanduser()
    return Path(file)


HELP = """\
/system TEXT  tell the model what it is; without TEXT, show it
/clear        forget the chat
/retry        answer the last message again
/stats        how fast the last answer was
/save FILE    write the chat as JSON messages
/load FILE    go on with such a chat
/exit         leave, as Ctrl-D does
A line that ends with a backslash goes on in the next; so does all between two lines of three quotes (\"\"\").
Ctrl-C stops an answer; what it said so far stays in the chat."""
