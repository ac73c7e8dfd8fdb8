"""`gpux chat --save` and `--conversation`, and `gpux conversations`."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gpux.chat.database import open_database
from gpux.cli.chat import Chat
from gpux.cli.main import gpux, run
from gpux.cli.saved_chat import SavedChat
from gpux.cli.terminal import Terminal
from gpux.errors import ConversationAccessError, ConversationNotFoundError, UnsupportedOperationError, UsageError
from gpux.pull import open as opening
from gpux.system.settings import Settings
from tests.cli.chat_partner import Partner
from tests.cli.test_chat import Typed
from tests.server.test_names import put
from tests.waiting import wait_until

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def partner(monkeypatch: pytest.MonkeyPatch) -> Partner:
    made = Partner()
    monkeypatch.setattr(opening, "open_model", lambda *_, **__: None)
    monkeypatch.setattr(opening, "pipeline", lambda *_, **__: made)
    return made


def invoked(*args: str, typed: str = "") -> Result:
    done = CliRunner().invoke(gpux, args, input=typed)
    assert done.exit_code == 0, done.output + repr(done.exception)
    return done


def listed() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(invoked("conversations", "list", "--json").stdout)
    return found


def shown(id: str) -> list[tuple[str, str, bool]]:
    found = json.loads(invoked("conversations", "show", id, "--json").stdout)
    return [(one["sender"], one["text"], one["partial"]) for one in found["messages"]]


class Acting(Typed):
    """A person who also does something else between two lines."""

    def _line(self, prompt: str) -> str:
        line: Any = next(self._lines, EOFError())
        while callable(line):
            line()
            line = next(self._lines, EOFError())
        if isinstance(line, BaseException):
            raise line
        return str(line)


def talk(*lines: str | BaseException | Callable[[], None], id: str | None = None) -> Partner:
    """A chat on a terminal, stored."""
    partner, terminal = Partner(), Terminal(as_json=False, quiet=False)
    with SavedChat(terminal, None, id) as saved:
        saved.use("org/name:int4", saved.system)
        Chat(terminal, partner, {}, system=saved.system, lines=Acting(*lines), saved=saved).run()  # type: ignore[arg-type]
    return partner


# A chat that is stored


def test_a_chat_is_stored_and_continued_with_its_model(partner: Partner) -> None:
    asked: list[str] = []
    done = invoked("chat", "org/name", "--precision", "int4", "--save", "--system", "Be brief.", typed="hello there\n")
    (first,) = listed()
    assert first["id"] in done.stderr
    assert (first["tabName"], first["llmModel"], first["modelProvider"], first["messageCount"]) == (
        "hello there",
        "hf:org/name:int4",
        "huggingface",
        2,
    )
    opening.open_model = lambda ref, **_: asked.append(ref)  # type: ignore[assignment]
    done = invoked("chat", "--conversation", first["id"], typed="and you\n")
    assert (done.stdout, asked) == ("and you\n", ["org/name:int4"])
    assert [one["content"] for one in partner.asked[-1]] == ["Be brief.", "hello there", "hello there", "and you"]
    assert shown(first["id"]) == [
        ("user", "hello there", False),
        ("llm", "hello there", False),
        ("user", "and you", False),
        ("llm", "and you", False),
    ]
    invoked("chat", "org/other@v2", "--conversation", first["id"], typed="x\n")
    assert listed()[0]["llmModel"] == "hf:org/other@v2"
    stored = json.loads(invoked("conversations", "show", first["id"], "--json").stdout)["messages"][1]
    assert (stored["promptTokens"], stored["completionTokens"], stored["finishReason"]) == (40, 2, "stop")


def test_a_chat_without_save_stores_nothing(settings: Settings) -> None:
    invoked("chat", "org/name", typed="hello\n")
    assert not (settings.home / "conversations.db").exists()


def test_a_retry_replaces_the_answer() -> None:
    talk("one", "/retry", "two", KeyboardInterrupt())
    (chat,) = listed()
    assert [text for _, text, _ in shown(chat["id"])] == ["one", "one", "two", "two"]
    talk("/retry", id=chat["id"])
    assert [text for _, text, _ in shown(chat["id"])] == ["one", "one", "two", "two"]


def test_an_answer_that_fails_is_kept_and_the_chat_goes_on() -> None:
    partner = talk("one", "so far break", "two")
    assert [one["content"] for one in partner.asked[-1]] == ["one", "one", "two"]
    (chat,) = listed()
    assert shown(chat["id"]) == [
        ("user", "one", False),
        ("llm", "one", False),
        ("user", "so far break", False),
        ("llm", "so far", True),
        ("user", "two", False),
        ("llm", "two", False),
    ]
    stored = json.loads(invoked("conversations", "show", chat["id"], "--json").stdout)["messages"][3]
    assert (stored["finishReason"], stored["error"]) == ("error", "chat_template")


def test_a_retry_after_a_failure_answers_the_message_before() -> None:
    talk("one", "so far break", "/retry")
    (chat,) = listed()
    assert shown(chat["id"]) == [("user", "one", False), ("llm", "one", False)]


def test_a_chat_goes_on_while_answers_cannot_be_stored(settings: Settings, capsys: Captured) -> None:
    def change(statement: str) -> None:
        with closing(sqlite3.connect(settings.home / "conversations.db")) as file, file:
            file.execute(statement)

    def refuse() -> None:
        when = "BEFORE INSERT ON messages WHEN NEW.sender = 'llm'"
        change(f"CREATE TRIGGER refuse {when} BEGIN INSERT INTO missing VALUES (1); END")

    def refuse_ends() -> None:
        when = "BEFORE UPDATE ON messages WHEN NEW.finish_reason IS NOT NULL"
        change(f"CREATE TRIGGER refuse {when} BEGIN INSERT INTO missing VALUES (1); END")

    def allow() -> None:
        change("DROP TRIGGER refuse")

    partner = talk("one", refuse, "two", allow, "/retry", "three", refuse_ends, "four", allow, "five")
    said = capsys.readouterr()
    assert said.out.splitlines() == ["one", "one", "three", "four", "five"]
    assert said.err.count("error: the database") == 2
    assert [one["content"] for one in partner.asked[1]] == ["one"], "the second message was not stored, and not sent"
    (chat,) = listed()
    messages = shown(chat["id"])
    assert [text for _, text, _ in messages] == ["one", "one", "three", "three", "four", "four", "five", "five"]
    assert not any(partial for _, _, partial in messages), "the end that was refused was written later"


def test_a_cleared_chat_begins_another_conversation() -> None:
    talk("one", "/clear", "/system Be kind.", "two")
    second, first = listed()
    assert (first["tabName"], second["tabName"], first["system"], second["system"]) == ("one", "two", None, "Be kind.")


def test_a_loaded_chat_begins_another_conversation(tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    roles = ("system", "user", "assistant")
    file.write_text(json.dumps([{"role": role, "content": f"a {role}"} for role in roles]))
    talk("one", f"/load {file}", "/retry", "two")
    second, _ = listed()
    assert (second["tabName"], second["system"]) == ("a user", "a system")
    assert [text for _, text, _ in shown(second["id"])] == ["a user", "a user", "two", "two"]


def test_a_conversation_of_another_provider_needs_a_model(capsys: Captured, settings: Settings) -> None:
    talk("one")
    (chat,) = listed()
    with closing(sqlite3.connect(settings.home / "conversations.db")) as file, file:
        file.execute("UPDATE conversations SET model_provider = 'ollama', llm_model = 'ollama:x'")
    capsys.readouterr()
    assert run(["chat", "--conversation", chat["id"]]) == UsageError.exit_code
    assert "ollama" in capsys.readouterr().err
    invoked("chat", "org/name", "--conversation", chat["id"], typed="two\n")
    assert listed()[0]["modelProvider"] == "huggingface"


def test_a_conversation_of_a_server_with_a_local_model_goes_on_with_its_folder(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tmp_path / "models" / "small")
    put(settings.store, folder, scheme="local")
    talk("one")
    (chat,) = listed()
    asked: list[str] = []
    monkeypatch.setattr(opening, "open_model", lambda ref, **_: asked.append(ref))
    for name in ("hf:small", "hf:small:fp32", f"hf:{folder}", "hf:other"):
        with closing(sqlite3.connect(settings.home / "conversations.db")) as file, file:
            file.execute("UPDATE conversations SET llm_model = ?", (name,))
        invoked("chat", "--conversation", chat["id"], typed="two\n")
    assert asked == [folder, f"{folder}:fp32", folder, "other"]


def test_a_killed_chat_keeps_what_was_said(settings: Settings) -> None:
    program = "from tests.cli.chat_partner import piped; piped()"
    command = [sys.executable, "-c", program, "--save"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as chat:
        assert chat.stdin is not None and chat.stdout is not None
        chat.stdin.write(b"forever\n")
        chat.stdin.flush()
        chat.stdout.read(20)
        file = settings.home / "conversations.db"

        def answer() -> str:
            with closing(sqlite3.connect(file)) as opened:
                found = opened.execute("SELECT text FROM messages WHERE sender = 'llm'").fetchone()
                return str(found[0])

        wait_until(answer)
        chat.kill()
    (one,) = listed()
    question, partial = shown(one["id"])
    assert question == ("user", "forever", False)
    assert partial[1].startswith("forever") and partial[2]


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        (["chat"], UsageError),
        (["chat", "--save"], UsageError),
        (["chat", "org/name", "--database", "sqlite:///x.db"], UsageError),
        (["chat", "org/name", "--save", "--database", "mysql://x"], UsageError),
        (["chat", "--conversation", "unknown"], ConversationNotFoundError),
        (["conversations", "show", "unknown"], ConversationNotFoundError),
        (["conversations", "export", "unknown"], ConversationNotFoundError),
        (["conversations", "delete", "unknown", "--yes"], ConversationNotFoundError),
        (["conversations", "delete", "--yes"], UsageError),
        (["conversations", "delete", "a", "--older-than", "3"], UsageError),
        (["conversations", "migrate", "--to", "0042", "--yes"], UsageError),
        (["conversations", "list", "--database", "postgresql://me:s3cret@127.0.0.1:1/x"], None),
    ],
)
def test_what_cannot_be_done(typed: list[str], error: type[Any] | None, capsys: Captured) -> None:
    expected = error.exit_code if error else 6
    assert run(typed) == expected
    said = capsys.readouterr().err
    assert "→" in said and "Traceback" not in said and "s3cret" not in said


@pytest.mark.parametrize("missing", ["sqlalchemy", "alembic"])
def test_without_the_extra_its_installation_is_named(missing: str) -> None:
    program = f"""
import sys
sys.modules["{missing}"] = None
from gpux.cli.main import run
print(run(["conversations", "list"]), run(["chat", "org/name", "--save"]))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    assert done.stdout.split() == [str(UnsupportedOperationError.exit_code)] * 2, done.stderr
    assert done.stderr.count("pip install 'gpux[chat]'") == 2


# The commands


def test_conversations_are_exported_and_deleted(tmp_path: Path) -> None:
    talk("one")
    talk("two")
    second, first = listed()
    document = json.loads(invoked("conversations", "export").stdout)
    assert [one["id"] for one in document["conversations"]] == [second["id"], first["id"]]
    file = tmp_path / "one.md"
    invoked("conversations", "export", first["id"], "--format", "markdown", "-o", str(file))
    assert file.read_text().startswith("# one\n")
    assert invoked("conversations", "show", first["id"]).stdout == file.read_text()
    done = CliRunner().invoke(gpux, ["conversations", "delete", first["id"]])
    assert isinstance(done.exception, UsageError)
    invoked("conversations", "delete", first["id"], "--dry-run")
    assert len(listed()) == 2
    deleted = json.loads(invoked("conversations", "delete", first["id"], "--yes", "--json").stdout)
    assert (deleted["deleted"], [one["id"] for one in deleted["conversations"]]) == (True, [first["id"]])
    invoked("conversations", "delete", "--older-than", "1", "--yes")
    assert [one["id"] for one in listed()] == [second["id"]]


def test_a_private_chat_needs_its_password(tmp_path: Path) -> None:
    secret, wrong = tmp_path / "secret", tmp_path / "wrong"
    secret.write_text("correct horse\n")
    wrong.write_text("horse\n")
    invoked("chat", "org/name", "--save", "--password-file", str(secret), typed="hello\n")
    (chat,) = listed()
    assert chat["isPrivate"]
    for command in (["conversations", "show"], ["conversations", "export"], ["chat", "--conversation"]):
        for file in ([], ["--password-file", str(wrong)]):
            done = CliRunner().invoke(gpux, [*command, chat["id"], *file])
            assert isinstance(done.exception, ConversationAccessError)
        invoked(*command, chat["id"], "--password-file", str(secret))
    done = invoked("conversations", "export")
    assert json.loads(done.stdout)["conversations"] == []
    assert "1 private" in done.stderr
    invoked("conversations", "delete", chat["id"], "--yes")
    assert listed() == []


def test_usage_is_shown_by_day(settings: Settings) -> None:
    assert "30 days" in invoked("conversations", "usage").stderr
    days = [datetime.now(UTC).date() - timedelta(days=days) for days in (1, 40)]

    async def record() -> None:
        database = await open_database(None, settings)
        for day in days:
            await database.usage.record("ollama", "ollama:a", total_ms=1500, first_token_ms=250, day=day)
        await database.usage.record("ollama", "ollama:a", total_ms=500, failed=True, prompt_tokens=3, day=days[0])
        await database.aclose()

    asyncio.run(record())
    done = invoked("conversations", "usage")
    assert done.stdout == f"{days[0]}\tollama\tollama:a\t2\t1\t3\t0\t1.0 s\t0.25 s\n"
    found = json.loads(invoked("conversations", "usage", "--days", "60", "--json").stdout)
    assert [(one["day"], one["requests"]) for one in found] == [(str(days[0]), 2), (str(days[1]), 1)]


def test_another_database_is_used(tmp_path: Path, settings: Settings) -> None:
    url = f"sqlite:///{tmp_path / 'other.db'}"
    invoked("chat", "org/name", "--save", "--database", url, typed="hello\n")
    assert listed() == []
    assert len(json.loads(invoked("conversations", "list", "--json", "--database", url).stdout)) == 1
    (settings.home / "chat.toml").write_text(f'database_url = "{url}"\n')
    assert len(listed()) == 1, "the configured database is the default"


def test_an_older_gpux_can_use_the_tables_again(settings: Settings) -> None:
    talk("one")
    done = CliRunner().invoke(gpux, ["conversations", "migrate", "--to", "0001"])
    assert isinstance(done.exception, UsageError)
    invoked("conversations", "migrate", "--to", "0001", "--yes")
    with closing(sqlite3.connect(settings.home / "conversations.db")) as file:
        columns = [row[1] for row in file.execute("PRAGMA table_info(conversations)")]
    assert "model_provider" not in columns
    assert [one["tabName"] for one in listed()] == ["one"]
