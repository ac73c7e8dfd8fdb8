"""Starts the server in a process of its own, which can be killed and started again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

ROOT = Path(__file__).parents[2]


class RunningOllama:
    """A server that answers.

    Args:
        arguments: of the program; see ``tests.ollama.server``.
    """

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        self._arguments = list(arguments)
        self.url = ""
        self.start()

    def start(self) -> None:
        """Start it, at the same address as before."""
        port = urlsplit(self.url).port or 0
        command = [sys.executable, "-m", "tests.ollama.server", "--port", str(port), *self._arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, "PYTHONPATH": "src"}
        )
        assert self.process.stdout is not None
        self.url = json.loads(self.process.stdout.readline())["url"]

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self.process.kill()
        self.wait()

    def wait(self) -> None:
        """Wait until it has ended by itself."""
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def state(self) -> dict[str, Any]:
        """``bodies`` and ``headers`` of chats, and how many answers are ``running``."""
        found: dict[str, Any] = httpx2.get(f"{self.url}/tests", trust_env=False).json()
        return found


@contextmanager
def running_ollama(arguments: Sequence[str] = ()) -> Iterator[RunningOllama]:
    """A running server; ended at the end of the block."""
    server = RunningOllama(arguments)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.terminate()
        server.wait()
