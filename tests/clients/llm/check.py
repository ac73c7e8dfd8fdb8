"""llm, the command, with models of ``extra-openai-models.yaml``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from checks import CHAT, URL, check, main

_home = tempfile.TemporaryDirectory()
(Path(_home.name) / "extra-openai-models.yaml").write_text(
    f"- model_id: gpux\n  model_name: {CHAT}\n  api_base: {URL}/v1\n"
    f"- model_id: gpux-text\n  model_name: {CHAT}\n  api_base: {URL}/v1\n  completion: true\n"
)


def llm(*arguments: str) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "llm", *arguments]
    given = {**os.environ, "LLM_USER_PATH": _home.name, "OPENAI_API_KEY": "none"}
    done = subprocess.run(command, env=given, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


@check
def answers_with_and_without_a_stream() -> None:
    whole = llm("-m", "gpux", "--no-stream", "-o", "max_tokens", "9", "abc")
    assert len(whole) == 9, whole
    assert llm("-m", "gpux", "-o", "max_tokens", "9", "abc") == whole
    assert llm("-m", "gpux", "-s", "b", "-o", "max_tokens", "9", "abc") != ""


@check
def continues_a_conversation() -> None:
    assert llm("-c", "-m", "gpux", "-o", "max_tokens", "3", "a")


@check
def completes_a_text() -> None:
    assert len(llm("-m", "gpux-text", "-o", "max_tokens", "5", "abc")) == 5


main("llm", version("llm"))
