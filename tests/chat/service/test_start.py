"""When chats start with a server, and what a server without them loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.chat.service.talking import PATH, stored, talk, with_ollama
from tests.ollama.running import RunningOllama
from tests.server.running import Running, serving
from tests.server.test_imports import PROGRAM

HEAVY = {"sqlalchemy", "alembic", "ariadne", "graphql", "watchfiles", "httpx2", "greenlet"}
RUNTIME = {"onnxruntime", "tokenizers", "numpy", "onnx", "huggingface_hub", "torch", "transformers"}


def imported(code: str, *arguments: str, **environment: str) -> set[str]:
    command = [sys.executable, "-P", "-c", f"{code}\nimport sys\nprint(*sorted(sys.modules))", *arguments]
    env = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return set(done.stdout.splitlines()[-1].split())


def test_the_endpoints_import_no_library_of_the_extra() -> None:
    modules = imported("import gpux.chat.api")
    assert "gpux.chat.service" in modules
    assert not modules & (HEAVY | RUNTIME)


def test_a_server_that_is_not_asked_imports_none_either(home: Path) -> None:
    modules = imported(PROGRAM, "/health", "/v1/models", GPUX_HOME=str(home), HF_HOME=str(home / "hf"))
    assert not modules & (HEAVY | RUNTIME)


def test_without_chats_the_paths_are_not_there(gpux_server: Running) -> None:
    assert gpux_server.post(PATH, {"message": "hi"}).status_code == 404
    assert PATH not in gpux_server.get("/openapi.json").json()["paths"]
    assert "stream-message" not in gpux_server.log.read_text().partition("Ctrl-C")[0]


def test_the_start_names_the_path_and_a_first_message_makes_the_database(home: Path, ollama: RunningOllama) -> None:
    (home / "chat.toml").write_text(with_ollama(ollama.url))
    with serving(home, environment={"GPUX_CONFIG": str(home / "chat.toml")}) as server:
        assert talk(server, {"model": "ollama:echo", "message": "hi"}).status == 200
        assert f"{server.url}{PATH}" in server.log.read_text()
        assert len(stored(home)) == 2
