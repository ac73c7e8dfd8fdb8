"""When chats start with a server, and what a server without them loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.chat.service.talking import PATH, chatting, talk
from tests.server.running import WRITER, serving
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


def test_without_chats_the_paths_are_not_there(home: Path) -> None:
    with serving(home, ["--no-chat"]) as server:
        assert server.post(PATH, {"message": "hi"}).status_code == 404
        assert PATH not in server.get("/openapi.json").json()["paths"]
        assert "stream-message" not in server.log.read_text().partition("Ctrl-C")[0]


def test_the_start_names_the_path(home: Path) -> None:
    with chatting(home) as server:
        found = talk(server, {"model": f"hf:{WRITER}", "message": "hi", "options": {"maxTokens": 2}})
        assert found.status == 200
        assert f"{server.url}{PATH}" in server.log.read_text()
