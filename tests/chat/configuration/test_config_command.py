"""``gpux config``, run as a user does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpux.chat.values import OPENAI
from gpux.cli.main import run


@pytest.fixture
def file(home: Path) -> Path:
    path = home / "gpux" / "chat.toml"
    path.parent.mkdir()
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert run(["config", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_path(file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["config", "path"]) == 0
    assert capsys.readouterr().out == f"{file}\n"
    assert printed(capsys, "path") == {"path": str(file), "exists": False, "configured": False}
    monkeypatch.setenv("GPUX_CONFIG", "/etc/chat.toml")
    assert printed(capsys, "path")["path"] == "/etc/chat.toml"
    assert printed(capsys, "path", "--config", "/mine.toml")["path"] == "/mine.toml"


def test_show_has_values_and_their_places(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('database_url = "postgresql://me:secret@db/chats"\n[models."hf:a/b"]\nprecision = "fp16"\n')
    monkeypatch.setenv("GPUX_HUGGINGFACE_DEVICE", "cpu")
    assert run(["config", "show"]) == 0
    output = capsys.readouterr()
    assert f"database_url\tpostgresql://***@db/chats\t{file}:1\n" in output.out
    assert f'models."hf:a/b".precision\tfloat16\t{file}:3\n' in output.out
    assert "model_defaults.device\tcpu\tGPUX_HUGGINGFACE_DEVICE\n" in output.out
    assert "flush_ms\t250\tdefault\n" in output.out
    assert "warning:" in output.err
    assert "providers.ollama.type\tollama\tdefault\n" in output.out
    assert "providers.ollama.prefix\tollama:\tdefault\n" in output.out
    assert "providers.huggingface.prefix\thf:\tdefault\n" in output.out
    assert "retention_days\tnot set\tdefault\n" in output.out
    found = printed(capsys, "show")
    assert found["configuration"]["models"]["hf:a/b"]["precision"] == "float16"
    assert found["sources"]["model_defaults.device"] == "GPUX_HUGGINGFACE_DEVICE"
    assert "secret" not in json.dumps(found)


def test_show_has_the_addresses_and_the_database_that_are_used(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    assert run(["config", "show"]) == 0
    lines = capsys.readouterr().out
    assert f"database_url\tsqlite:///{file.parent / 'conversations.db'}\tdefault\n" in lines
    assert "providers.ollama.base_url\thttp://127.0.0.1:11434\tdefault\n" in lines
    monkeypatch.setenv("OLLAMA_HOST", "http://me:secret@gpu-box:11434")
    assert run(["config", "show"]) == 0
    lines = capsys.readouterr().out
    assert "providers.ollama.base_url\thttp://***@gpu-box:11434\tOLLAMA_HOST\n" in lines
    file.write_text('[providers.ollama]\nbase_url = "http://other:1"\n')
    assert run(["config", "show"]) == 0
    assert f"providers.ollama.base_url\thttp://other:1\t{file}:2\n" in capsys.readouterr().out
    file.write_text("[providers.openai]\napi_key_keyring = 'openai'\n")
    assert run(["config", "show"]) == 0
    assert f"providers.openai.base_url\t{OPENAI}\tdefault\n" in capsys.readouterr().out


def test_validate(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "validate"]) == 0
    assert "Valid; there is no file" in capsys.readouterr().err
    file.write_text("retry_atempts = 1\n\nflush_ms = 1\n")
    assert run(["config", "validate"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert f"error: {file}:1: retry_atempts: unknown key\n  → Did you mean retry_attempts?" in output.err
    assert f"error: {file}:3: flush_ms: 1 must be between 10 and 60,000" in output.err
    found = printed(capsys, "validate", code=2)
    assert not found["valid"]
    assert [(one["line"], one["key"]) for one in found["errors"]] == [(1, "retry_atempts"), (3, "flush_ms")]
    assert printed(capsys, "show", code=2)["error"]["line"] == 1


def test_rollback(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "rollback", "--list") == []
    assert "no earlier version" in printed(capsys, "rollback", code=2)["error"]["message"]
    versions = file.with_name("chat.toml.versions")
    versions.mkdir()
    for number in (1, 2):
        (versions / f"00000{number}.toml").write_text(f"retry_attempts = {number}\n")
    file.write_text("retry_attempts = 2\n")
    assert [(one["number"], one["in_file"]) for one in printed(capsys, "rollback", "--list")] == [(2, True), (1, False)]
    assert run(["config", "rollback"]) == 0
    assert file.read_text() == "retry_attempts = 1\n"
    assert "Restored version 1" in capsys.readouterr().err
    assert printed(capsys, "rollback", "2")["number"] == 2
    assert file.read_text() == "retry_attempts = 2\n"
    assert printed(capsys, "rollback", "7", code=2)["error"]["hint"] == "Kept versions: 2, 1."
