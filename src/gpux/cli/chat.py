"""``gpux chat``: the command, the conversation, its input lines and its files."""

from __future__ import annotations

import difflib
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpux.cli.generating import (
    chosen_options,
    described,
    figures,
    generation_options,
    print_piece,
    stopped_by_interrupt,
)
from gpux.cli.references import complete
from gpux.cli.saved_chat import SavedChat, database_options, open_saved_chat, password_option
from gpux.cli.terminal import Terminal, command
from gpux.cli.toolchain import with_toolchain
from gpux.errors import GpuxError, InputError, UsageError
from gpux.model.json_file import parse_json
from gpux.model.reference import ModelRef, local_path
from gpux.model.variant import StoredModel
from gpux.system.cancel import CancelToken
from gpux.system.files import write_atomic

if TYPE_CHECKING:
    from gpux.pipelines.generation.text_generation import TextGenerationPipeline
    from gpux.runtime.generation.results import Generation


def write_messages(path: Path, messages: list[dict[str, Any]]) -> None:
    """Write a chat to a file; only a file that holds a chat is overwritten.

    Raises:
        UsageError: the file exists and does not hold a chat.
        OSError: it cannot be written.
    """
    if path.exists():
        try:
            read_messages(path)
        except GpuxError as exc:
            raise UsageError(f"{path} exists and does not hold a chat", hint="Choose another file name.") from exc
    write_atomic(path, json.dumps(messages, indent=2, ensure_ascii=False) + "\n")


def read_messages(path: Path) -> list[dict[str, Any]]:
    """The messages in a file.

    Raises:
        InputError: the file is not JSON, or not a list of messages.
        OSError: it cannot be read.
    """
    from gpux.pipelines.chat.messages import checked

    try:
        found = parse_json(path.read_bytes())
    except ValueError as exc:  # not JSON, or not UTF-8
        raise InputError(f"{path} is not JSON: {exc}", hint="Load a file that /save wrote.") from exc
    return checked(found)


_QUOTES = '"""'


class Lines:
    """Messages from standard input.

    Args:
        terminal: prompts go to stdout where that is a terminal, else to stderr, so that data stays data.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        #: standard input is a terminal
        self.interactive = sys.stdin is not None and sys.stdin.isatty()
        self._readline = None
        if self.interactive:
            with suppress(ImportError):  # Windows has no readline; input() works without it
                import readline

                self._readline = readline  # from now on input() has a history, in memory only
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether a message was incomplete when reading was interrupted."""
        return self._begun or bool(self._readline and self._readline.get_line_buffer().strip())

    def read(self) -> str:
        """The next message: a line, the lines that a backslash joins, or those between three quotes.

        Raises:
            EOFError: nothing more comes.
            KeyboardInterrupt: Ctrl-C was typed.
        """
        self._begun = False
        line = self._line(">>> ")
        if line.lstrip().startswith(_QUOTES):
            return self._block(line.lstrip()[len(_QUOTES) :])
        found = [line]
        while found[-1].endswith("\\"):
            self._begun = True
            found[-1] = found[-1][:-1]
            found.append(self._line("... "))
        return "\n".join(found)

    def _block(self, line: str) -> str:
        self._begun = True
        found = [line]
        while not found[-1].rstrip().endswith(_QUOTES):
            found.append(self._line("... "))
        found[-1] = found[-1].rstrip()[: -len(_QUOTES)]
        return "\n".join(found).strip("\n")

    def _line(self, prompt: str) -> str:
        if sys.stdout.isatty():
            return input(prompt)
        click.echo(prompt, nl=False, err=True)
        return input()

    def piped(self) -> Iterator[str]:
        """Each line that is not empty.

        Raises:
            UsageError: standard input is closed.
        """
        if sys.stdin is None:
            raise UsageError(
                "standard input is closed, so there are no messages", hint="Pipe them: echo Hello | gpux chat …"
            )
        if isinstance(sys.stdin, io.TextIOWrapper):  # bytes in another encoding reach the check that names the message
            sys.stdin.reconfigure(errors="surrogateescape")
        for line in sys.stdin:
            if text := line.strip("\r\n"):
                yield text


class Chat:
    """One chat with one model.

    Args:
        terminal: where answers and remarks go.
        pipe: gives the answers.
        options: of every answer.
        system: the system message, if any.
        stats: say after each answer how fast it was.
        lines: where messages come from; by default standard input.
        saved: the conversation that it is stored in, and that it continues; None: it is not stored.

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
        saved: SavedChat | None = None,
    ) -> None:
        pipe.chat_template.choose(options.get("chat_template"))  # fails before the chat begins
        self._terminal, self._pipe, self._options, self._stats = terminal, pipe, options, stats
        self._lines = lines or Lines(terminal)
        self._system = system
        self._saved = saved
        self._messages: list[dict[str, Any]] = [] if saved is None else saved.messages()
        self._last: Generation | None = None
        self._retries = 0
        self._interrupted = False  # Ctrl-C was pressed since the last message

    def run(self) -> None:
        """Answer messages until the end of the input or ``/exit``."""
        if not self._lines.interactive:
            for message in self._lines.piped():
                self._answer_to(message)
            return
        self._terminal.say("Type a message. /help lists commands, Ctrl-D exits.")
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
        """The next line that is not empty; None at the end of the input or after Ctrl-C twice at an empty prompt."""
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
                self._terminal.say("Press Ctrl-C again or Ctrl-D to exit.")
                continue
            self._interrupted = False
            if text.strip():
                return text

    def _answer_to(self, text: str) -> None:
        if self._saved is not None:
            self._saved.ask(text)
        self._messages.append({"role": "user", "content": text})
        self._retries = 0
        self._answer()

    def _answer(self) -> None:
        """Answer the last message; remove it where the answer fails or is stopped before its first word."""
        try:
            result = self._written()
        except BaseException as exc:
            self._messages.pop()
            if self._saved is not None:
                self._saved.fail(exc)
            raise
        self._last = result
        if result.text or result.finish_reason != "cancelled":
            self._messages.append({"role": "assistant", "content": result.text})
            if self._saved is not None:
                self._saved.finish(result)
        else:
            self._messages.pop()
            if self._saved is not None:
                self._saved.withdraw()
            self._terminal.say("Stopped before the first word; your message was removed from the chat.")
        if self._stats:
            self._terminal.say(described(result))

    def _written(self) -> Generation:
        token, whole = CancelToken(), self._terminal.as_json
        with self._stoppable(token), self._pipe.stream(self._all(), cancel=token, **self._chosen()) as stream:
            for piece in stream:
                if not whole:
                    print_piece(piece)
                if self._saved is not None:
                    self._saved.piece(piece)
            result = stream.result
        if whole:
            self._terminal.data({"role": "assistant", "content": result.text, **figures(result)}, compact=True)
        else:
            click.echo()
        return result

    def _all(self) -> list[dict[str, Any]]:
        return [*([] if self._system is None else [{"role": "system", "content": self._system}]), *self._messages]

    def _chosen(self) -> dict[str, Any]:
        """The options, with another seed for each retry."""
        if self._retries and "seed" in self._options:
            return {**self._options, "seed": self._options["seed"] + self._retries}
        return self._options

    def _stoppable(self, token: CancelToken) -> AbstractContextManager[None]:
        """On a terminal Ctrl-C sets the token; in a pipe it ends the program."""
        return stopped_by_interrupt(token, self._note_interrupt) if self._lines.interactive else nullcontext()

    def _note_interrupt(self) -> None:
        self._interrupted = True

    # Commands

    def _obeyed(self, text: str) -> bool:
        """Run a line that begins with one slash as a command; False for a message."""
        if not text.startswith("/") or text.startswith("//"):
            return False
        name, _, rest = text[1:].partition(" ")
        if name not in self._commands():
            near = difflib.get_close_matches(name, self._commands(), n=1)
            raise UsageError(
                f"unknown command /{name}" + (f"; did you mean /{near[0]}?" if near else ""),
                hint="/help lists the commands. Begin a message with two slashes to send one.",
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
        if self._saved is not None:
            self._saved.restart(system=self._system)
        self._terminal.say(
            "The messages were removed" + ("." if self._system is None else "; the system message stays.")
        )

    def _set_system(self, text: str) -> None:
        if text:
            if self._saved is not None:
                self._saved.change_system(text)
            self._system = text
        self._terminal.say(f"System message: {self._system}" if self._system else "There is no system message.")

    def _retry(self, _: str) -> None:
        if not self._messages:
            raise UsageError("there is no message to answer again")
        if self._saved is not None:
            self._saved.ask_again()
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
        if self._saved is not None:
            self._saved.restart(found, self._system)
        self._terminal.say(f"{len(found)} messages from {path}.")


class _Leave(Exception):
    """The user typed ``/exit``."""


def _leave(_: str) -> None:
    raise _Leave


def _path(file: str, typed: str) -> Path:
    if not file:
        raise UsageError(f"{typed} needs a file", hint=f"{typed} chat.json")
    with suppress(RuntimeError):  # the home folder is unknown
        return Path(file).expanduser()
    return Path(file)


HELP = """\
/system TEXT  set the system message; without TEXT, show it
/clear        remove all messages
/retry        answer the last message again
/stats        show the speed of the last answer
/save FILE    write the messages as JSON
/load FILE    continue a saved chat
/exit         exit, like Ctrl-D
A message continues after a backslash at the end of a line, and between two
lines of three quotes (\"\"\").
Ctrl-C stops an answer and keeps its text so far."""


_TOKENS = 1024  #: default of --max-new-tokens in a chat


@command("chat")
@click.argument("ref", required=False, shell_complete=complete)
@click.option("--system", help="The system message.")
@click.option("--template", help="Name of one of the model's chat templates, or a template file.")
@click.option("--stats", is_flag=True, help="Print the speed after each answer.")
@click.option("--save", is_flag=True, help="Store the chat as a conversation; see `gpux conversations`.")
@click.option(
    "--conversation", metavar="ID", help="Continue a stored conversation, with its model unless REF is given."
)
@database_options
@password_option
@click.option("--revision", help="Branch, tag, refs/pr/N or commit.")
@click.option("--precision", metavar="NAME", help="int8, int4 …, or auto for the device; as REF:int8.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, coreml … or auto.")
@click.option("--offline", is_flag=True, help="Use stored models only; make no request.")
@click.option("--yes", "-y", is_flag=True, help="Install a missing toolchain without asking.")
@generation_options
def chat_command(
    terminal: Terminal,
    ref: str | None,
    save: bool,
    conversation: str | None,
    url: str | None,
    password_file: Path | None,
    offline: bool,
    **options: Any,
) -> None:
    """Chat with a model; pulls it first if it is not stored.

    On a terminal, /help lists the commands, Ctrl-C stops an answer, Ctrl-D exits. In a pipe, each line of standard
    input is a message of one chat, and answers go to standard output; with --json, one JSON object per line.
    """
    terminal.override(offline=offline or None)
    if save or conversation is not None:
        with open_saved_chat(terminal, url, conversation, password_file) as saved:
            _chat(terminal, ref or saved.ref, saved, **options)
        return
    if url is not None or password_file is not None:
        raise UsageError("--database and --password-file are for chats that are stored", hint="Add --save.")
    _chat(terminal, ref, None, **options)


def _chat(
    terminal: Terminal,
    ref: str | None,
    saved: SavedChat | None,
    *,
    system: str | None,
    template: str | None,
    stats: bool,
    revision: str | None,
    precision: str | None,
    device: str,
    yes: bool,
    **options: Any,
) -> None:
    from gpux.pull.open import open_model, pipeline

    if ref is None:
        raise UsageError("no model is named", hint="gpux chat org/name")

    def opened() -> StoredModel:
        with terminal.progress() as progress:
            return open_model(
                ref,
                task="text-generation",
                revision=revision,
                precision=precision,
                settings=terminal.settings,
                progress=progress,
            )

    model = with_toolchain(terminal, opened, yes=yes)
    with pipeline("text-generation", model=model, device=device) as pipe:
        for note in pipe.session.notes:  # devices that `auto` did not choose, and why
            terminal.say(f"! {note}")
        chosen = {"max_new_tokens": _TOKENS, **chosen_options(**options)}
        if template is not None:
            chosen["chat_template"] = _template(template)
        if saved is not None:
            system = saved.system if system is None else system
            saved.use(_named(ref, revision, precision), system)
        Chat(terminal, pipe, chosen, system=system, stats=stats, saved=saved).run()


def _named(ref: str, revision: str | None, precision: str | None) -> str:
    """The reference with its revision and precision, as it can be typed again in any folder."""
    named = ModelRef.parse(ref).at(revision).in_precision(precision)
    if named.scheme == "local":
        named = replace(named, id=str(local_path(named.id).absolute()))
    return str(named)


def _template(given: str) -> str:
    """The content of a file, or the name unchanged."""
    return Path(given).read_text(encoding="utf-8") if Path(given).is_file() else given
