"""`gpux chat`: what is typed, what comes through a pipe, what Ctrl-C does, and chats as files."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gpux.cli.chat import Chat, Lines, described
from gpux.cli.main import gpux, run
from gpux.cli.terminal import Terminal
from gpux.errors import ChatTemplateError, InputError
from gpux.pull import open as opening
from tests.cli import chat_partner
from tests.cli.chat_partner import Partner

Captured = pytest.CaptureFixture[str]
HELLO = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "hello there"}]


@pytest.fixture
def partner(monkeypatch: pytest.MonkeyPatch) -> Partner:
    made = Partner()
    monkeypatch.setattr(opening, "open_model", lambda *_, **__: None)
    monkeypatch.setattr(opening, "pipeline", lambda *_, **__: made)
    return made


class Typed(Lines):
    """A person who types these lines; an exception is what typing it raises."""

    def __init__(self, *lines: str | BaseException, begun: bool = False) -> None:
        self.interactive, self._lines, self._was_begun = True, iter(lines), begun

    @property
    def begun(self) -> bool:
        return self._was_begun

    def _line(self, prompt: str) -> str:
        line = next(self._lines, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line


def talk(*lines: str | BaseException, begun: bool = False, as_json: bool = False, **arguments: Any) -> Partner:
    partner, options = Partner(), arguments.pop("options", {})
    terminal = Terminal(as_json=as_json, quiet=False)
    Chat(terminal, partner, options, lines=Typed(*lines, begun=begun), **arguments).run()  # type: ignore[arg-type]
    return partner


# In a pipe


def test_each_line_of_a_pipe_is_a_message(partner: Partner) -> None:
    done = CliRunner().invoke(gpux, ["chat", "org/name"], input="hello there\n\n/clear\r\nC:\\\n")
    assert (done.exit_code, done.stdout) == (0, "hello there\n/clear\nC:\\\n")
    assert done.stderr == "! cuda: not here\n"
    assert partner.asked[0] == HELLO[:1]
    assert partner.asked[2] == [*HELLO, *[{"role": role, "content": "/clear"} for role in ("user", "assistant")],
                                {"role": "user", "content": "C:\\"}]  # fmt: skip
    assert partner.closed


def test_options_reach_the_model(partner: Partner, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{{ messages }}")
    typed = "--system Be.brief --max-new-tokens 5 --temperature 0.5 --top-p 0.9 --top-k 3 --seed 7 --template"
    done = CliRunner().invoke(
        gpux, ["chat", "org/name", *typed.split(), str(tmp_path / "mine.jinja"), "--stats"], input="a\n"
    )
    assert done.exit_code == 0
    expected = {"max_new_tokens": 5, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 7}
    assert partner.options == [{**expected, "chat_template": "{{ messages }}"}]
    assert partner.asked[0][0] == {"role": "system", "content": "Be.brief"}
    assert "1 tokens at 20.0 per second, the first after 0.25 s" in done.stderr
    CliRunner().invoke(gpux, ["chat", "org/name"], input="a\n")
    assert partner.options[1] == {"max_new_tokens": 1024}


def test_json_is_one_object_an_answer(partner: Partner) -> None:
    done = CliRunner().invoke(gpux, ["chat", "org/name", "--json"], input="größer\nb\n")
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["role"], first["content"], second["content"]) == ("assistant", "größer", "b")
    assert {name: first[name] for name in ("finish_reason", "prompt_tokens", "reused_tokens", "tokens")} == {
        "finish_reason": "eos",
        "prompt_tokens": 40,
        "reused_tokens": 30,
        "tokens": 1,
    }
    assert (first["first_token"], first["tokens_per_second"]) == (0.25, 20.0)


def test_an_error_in_a_pipe_is_the_end(
    partner: Partner, capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lines").write_text("a\nrefuse\nb\n")
    with (tmp_path / "lines").open() as lines:
        monkeypatch.setattr(sys, "stdin", lines)
        assert run(["chat", "org/name"]) == ChatTemplateError.exit_code
    shown, remarks = capsys.readouterr()
    assert shown == "a\n" and "refuses this: no\n  → Say something else." in remarks


def test_a_model_without_a_chat_template(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(opening, "open_model", lambda *_, **__: None)
    monkeypatch.setattr(opening, "pipeline", lambda *_, **__: Partner(None))
    assert run(["chat", "org/name"]) == ChatTemplateError.exit_code
    assert "not trained for chat" in capsys.readouterr().err
    assert run(["chat", "org/name", "--template", "nothing"]) == 2
    assert "no chat template has the name 'nothing'" in capsys.readouterr().err


def test_no_standard_input(partner: Partner, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run(["chat", "org/name"]) == 2
    assert "standard input is closed, so there are no messages" in capsys.readouterr().err


# Commands


def test_history_and_the_system_message() -> None:
    partner = talk("hello there", "/system Be kind.", "and?", "/clear", "anew")
    system = {"role": "system", "content": "Be kind."}
    assert partner.asked[1] == [system, *HELLO, {"role": "user", "content": "and?"}]
    assert partner.asked[2] == [system, {"role": "user", "content": "anew"}]


def test_messages_of_several_lines() -> None:
    partner = talk("a\\", "b\\", "c", '"""x', "", "  y", 'z"""', '"""one"""', "//etc is a folder")
    assert [asked[-1]["content"] for asked in partner.asked] == ["a\nb\nc", "x\n\n  y\nz", "one", "/etc is a folder"]


def test_another_try_draws_another_answer() -> None:
    partner = talk("hello there", "/retry", "/retry", "next", options={"seed": 5})
    assert [options["seed"] for options in partner.options] == [5, 6, 7, 5]
    assert partner.asked[2] == HELLO[:1]
    assert partner.asked[3] == [*HELLO, {"role": "user", "content": "next"}]


def test_an_error_removes_the_message(capsys: Captured) -> None:
    partner = talk("hello there", "refuse", "a break b", "next", "/retry")
    assert partner.asked[3] == [*HELLO, {"role": "user", "content": "next"}]
    remarks = capsys.readouterr().err
    assert "refuses this: no" in remarks and "→ Say something else." in remarks and "broken in the middle" in remarks


def test_a_failed_retry_keeps_the_old_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    original, failing = Partner.stream, iter([False, True, False])

    def stream(self: Partner, *arguments: Any, **named: Any) -> Any:
        if next(failing):
            raise InputError("not now")
        return original(self, *arguments, **named)

    monkeypatch.setattr(Partner, "stream", stream)
    partner = talk("hello there", "/retry", "next")
    assert partner.asked[-1] == [*HELLO, {"role": "user", "content": "next"}]


@pytest.mark.parametrize("last", ["/exit", "/quit", "/bye", EOFError()])
def test_leaving(last: str | BaseException) -> None:
    assert len(talk("a", last, "b").asked) == (2 if isinstance(last, str) else 1) - isinstance(last, str)


def test_ctrl_c_at_the_prompt(capsys: Captured) -> None:
    assert len(talk(KeyboardInterrupt(), "a", KeyboardInterrupt(), KeyboardInterrupt(), "b").asked) == 1
    assert capsys.readouterr().err.count("Press Ctrl-C again or Ctrl-D to exit.") == 2
    assert len(talk(KeyboardInterrupt(), KeyboardInterrupt(), "b", begun=True).asked) == 1  # it drops what was typed


def test_unknown_commands(capsys: Captured) -> None:
    assert talk("/hlep", "/save", "/load nowhere.json", "/retry", "/xyzzy").asked == []
    remarks = capsys.readouterr().err
    for said in (
        "unknown command /hlep; did you mean /help?",
        "/save needs a file",
        "No such file",
        "no message to answer",
    ):
        assert said in remarks
    assert "unknown command /xyzzy\n" in remarks


def test_help_and_stats(capsys: Captured) -> None:
    talk("/help", "/stats", "a b", "/stats", stats=False)
    remarks = capsys.readouterr().err
    for command in ("/system", "/clear", "/retry", "/stats", "/save", "/load", "/exit"):
        assert f"\n{command} " in f"\n{remarks}"
    assert all(len(line) < 80 for line in remarks.partition("There was")[0].splitlines())
    assert "There was no answer yet." in remarks
    assert "a prompt of 40 tokens, 30 of them reused; ended by eos." in remarks


def test_control_characters_stay_off_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    text = "a\x1b[2Jb\x9bc\td\r"
    talk(text)
    assert capsys.readouterr().out == f"{text}\n"  # data is left as it is
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    talk(text)
    assert capsys.readouterr().out == "a[2Jbc\td\n"


# Files


def test_a_chat_is_saved_and_goes_on(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "chat.json"
    talk("hello there", f"/save {file}", system="Be kind.")
    assert json.loads(file.read_text()) == [{"role": "system", "content": "Be kind."}, *HELLO]
    partner = talk(f"/load {file}", "/retry", "größer", f"/save {file}")
    assert partner.asked[0] == [{"role": "system", "content": "Be kind."}, HELLO[0]]
    assert [message["content"] for message in json.loads(file.read_text())[3:]] == ["größer", "größer"]
    assert [entry.name for entry in tmp_path.glob("*chat.json*")] == ["chat.json"]
    assert "5 messages are in" in capsys.readouterr().err


def test_files_that_do_not_hold_a_chat(tmp_path: Path, capsys: Captured) -> None:
    for name, text in {"a": "{", "b": "{}", "c": '[{"role": 5}]', "d": "\udcff"}.items():
        (tmp_path / name).write_text(text, errors="surrogateescape")
    names = [tmp_path / name for name in "abcd"]
    partner = talk("hello there", *(f"/load {name}" for name in names), *(f"/save {name}" for name in names), "/retry")
    assert partner.asked[1] == HELLO[:1]  # the chat is as it was
    remarks = capsys.readouterr().err
    assert (remarks.count("is not JSON"), remarks.count("exists and does not hold a chat")) == (2, 4)
    assert "messages are a list of dicts" in remarks and "message 0 has no role" in remarks
    assert (tmp_path / "b").read_text() == "{}"


# On a terminal


class Screen:
    """`gpux chat` in a process of its own, with a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        import pty  # POSIX only

        self._ours, theirs = pty.openpty()
        command = [sys.executable, chat_partner.__file__, *arguments]
        environ = {**os.environ, "TERM": "dumb", "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
        )
        os.close(theirs)
        self._shown = ""

    def until(self, pattern: str, *, again: str = "") -> str:
        """What is shown up to the pattern, and not given before. ``again`` is typed as long as nothing comes of it:
        Python loses a Ctrl-C that arrives in the instant in which it shows a prompt."""
        while not (found := re.search(pattern, self._shown)):
            self._read(again)
        shown, self._shown = self._shown[: found.end()], self._shown[found.end() :]
        return shown

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self, *, again: str = "") -> int:
        while (code := self.process.poll()) is None:
            self._read(again)
        return code

    def _read(self, again: str) -> None:
        if not select.select([self._ours], [], [], 1)[0]:
            self.type(again)
            return
        with suppress(OSError):  # Linux says EIO where others say end of file
            self._shown += os.read(self._ours, 65536).decode(errors="replace")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


@pytest.fixture
def screen() -> Iterator[Screen]:
    made = Screen()
    yield made
    made.close()


posix = pytest.mark.skipif(sys.platform == "win32", reason="a pseudo terminal is POSIX's")


@posix
def test_ctrl_c_stops_the_answer_and_not_the_program(screen: Screen) -> None:
    screen.until(">>> ")
    screen.type("forever\n")
    screen.until("forever\r?\n")  # what was typed
    screen.until("forever forever forever")
    screen.type("\x03")
    screen.until(">>> ")
    screen.type("/stats\n")
    screen.until("ended by cancelled")
    screen.until(">>> ")
    screen.type("hello there\n")
    assert "hello there" in screen.until("hello there\r?\n.*hello there\r?\n")
    screen.until(">>> ")
    screen.type("\x04")
    assert screen.end() == 0


@posix
def test_ctrl_c_before_the_first_word_removes_the_message(screen: Screen) -> None:
    screen.until(">>> ")
    screen.type("silence\n")
    screen.until("silence was asked")
    screen.type("\x03")
    screen.until("your message was removed")
    screen.until(">>> ")
    screen.type("half a line")
    screen.until("half a line")
    screen.type("\x03")
    screen.until(">>> ", again="\x03")
    screen.type("\x03")
    assert screen.end(again="\x03") == 0


@posix
def test_ctrl_c_in_a_pipe_ends_the_program() -> None:
    program = (
        "import sys; from gpux.pull import open as opening; from gpux.cli.main import run\n"
        "from tests.cli import chat_partner\n"
        "opening.open_model = lambda *a, **b: None; opening.pipeline = lambda *a, **b: chat_partner.Partner()\n"
        "sys.exit(run(['chat', 'org/name']))"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ,
    )
    assert process.stdin and process.stdout
    process.stdin.write(b"forever\n")
    process.stdin.close()
    assert process.stdout.read(7) == b"forever"
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    process.stdout.close()
    assert process.stderr and b"error: interrupted" in process.stderr.read()
    process.stderr.close()


def test_an_answer_without_a_second_token() -> None:
    from gpux.runtime.generation.results import Generation

    assert described(Generation("a", (1,), "length", 3)) == (
        "1 tokens, the first after 0.00 s; a prompt of 3 tokens; ended by length."
    )
