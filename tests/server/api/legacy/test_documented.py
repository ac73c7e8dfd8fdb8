"""The documentation's own commands and programs run as they are written there, with the port replaced."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.server.running import Running

DOCUMENT = Path(__file__).with_name("integration.md").read_text()
ADDRESS = "http://localhost:5000"
#: Required by /models, /generate and /pipeline for ids of the documentation.
GPT2 = {"model_id": "gpt2", "name": "GPT-2", "model_type": "text-generation"}


def blocks(language: str) -> list[str]:
    """The document's code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every curl command of the document, with its further lines."""
    found = []
    for block in blocks("bash"):
        for line in block.replace("\\\n", "").splitlines():
            if line.startswith("curl "):
                found.append(line)
            elif found and line.strip() and not line.startswith("#"):
                found[-1] += "\n" + line
    return found


def curl(legacy: Running, command: str) -> Any:
    """The JSON that a command prints."""
    port = legacy.url.rpartition(":")[2]
    shown = subprocess.run(
        ["sh", "-c", command.replace("localhost:5000", f"localhost:{port}")],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "no_proxy": "*"},
    )
    return json.loads(shown.stdout)


def register(legacy: Running) -> None:
    legacy.post("/api/huggingface/models", GPT2)


def test_the_document_has_all_its_commands() -> None:
    assert len(commands()) == 27
    assert len(blocks("python")) == len(blocks("javascript")) == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_command_succeeds(legacy: Running) -> None:
    with legacy.client() as client:
        for command in commands():
            if '"name": "GPT-2"' in command:
                client.delete("/api/huggingface/models/gpt2")
            else:
                register(legacy)
            answer = curl(legacy, command)
            assert answer["success"] is True, command
            if "/generate" in command or "/pipeline" in command:
                assert answer["model_info"] == GPT2


def test_the_javascript_example_prints_an_answer(legacy: Running) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    register(legacy)
    (source,) = blocks("javascript")
    shown = subprocess.run(
        [node, "-e", source.replace(ADDRESS, legacy.url)], capture_output=True, text=True, check=True
    )
    assert len(shown.stdout.strip()) > 1
    assert "undefined" not in shown.stdout


def test_the_python_example_prints_an_answer(legacy: Running) -> None:
    pytest.importorskip("requests")
    (source,) = blocks("python")
    shown = subprocess.run(
        [sys.executable, "-c", source.replace(ADDRESS, legacy.url)], capture_output=True, text=True, check=True
    )
    assert len(shown.stdout.strip()) > 1


def test_every_request_body_of_the_document_is_accepted(legacy: Running) -> None:
    """Those that are shown beside the commands: all fields of a route."""
    bodies = re.findall(
        r"\*\*(POST|PUT)\*\* `([^`]+)`.*?\*\*Request Body.*?\*\*\n\n```json\n(.*?)```", DOCUMENT, re.DOTALL
    )
    paths = [path for _, path, _ in bodies]
    assert [path.rpartition("/")[2] for path in paths] == ["models", "{model_id}", "load", "generate", "pipeline"]
    register(legacy)
    with legacy.client() as client:
        client.delete("/api/huggingface/models/microsoft/DialoGPT-medium")
        for method, path, body in bodies[:4]:
            answer = client.request(method, path.replace("{model_id}", "gpt2"), content=body)
            assert answer.json()["success"] is True, answer.text
