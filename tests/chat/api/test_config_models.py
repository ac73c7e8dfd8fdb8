"""``gpux config models``: the models of all chat providers on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpux.cli.main import run
from tests.chat.service.talking import with_ollama
from tests.ollama.running import RunningOllama
from tests.server.running import WRITER


@pytest.fixture(autouse=True)
def configured(home: Path, ollama: RunningOllama, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = home / "chat.toml"
    file.write_text(with_ollama(ollama.url))
    monkeypatch.setenv("GPUX_HOME", str(home))
    return file


def models(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(["config", "models", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_models_of_both_providers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "models"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {"ollama:echo:latest", f"hf:{WRITER}"} <= {row[0] for row in rows}
    found = models(capsys, "--search", "writer")
    assert found["count"] == len(found["models"]) == 2
    assert found["errors"] == {}
    assert {one["provider"] for one in models(capsys, "--provider", "huggingface")["models"]} == {"huggingface"}


def test_a_provider_that_does_not_answer_is_reported(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured.write_text('[providers.ollama]\nbase_url = "http://127.0.0.1:9"\n')
    found = models(capsys)
    assert f"hf:{WRITER}" in {one["name"] for one in found["models"]}
    assert found["errors"]["ollama"]["code"] == "provider_unavailable"
    assert run(["config", "models", "--provider", "ollama"]) == 5
    assert run(["config", "models", "--provider", "nobody"]) == 3


def test_a_broken_file_has_its_line(configured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured.write_text("default_provider = 'olama'\n")
    assert run(["config", "models", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["line"] == 1
