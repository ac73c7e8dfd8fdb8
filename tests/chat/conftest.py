"""Servers and models for all tests of chats that leave them as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chat.service.talking import endless
from tests.ollama.running import RunningOllama, running_ollama
from tests.server.running import Running, fill, serving


@pytest.fixture(scope="session")
def filled_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with stored models; only its store is used."""
    home = tmp_path_factory.mktemp("chat-models")
    endless(home, fill(home))
    return home


@pytest.fixture(scope="session")
def ollama() -> Iterator[RunningOllama]:
    """An Ollama that tests leave running."""
    with running_ollama() as running:
        yield running


@pytest.fixture(scope="session")
def gpux_server(tmp_path_factory: pytest.TempPathFactory, filled_store: Path) -> Iterator[Running]:
    """A server of models without chats, to which chat providers are clients."""
    home = tmp_path_factory.mktemp("second-server")
    (home / "store").symlink_to(filled_store / "store")
    with serving(home, ["--no-chat"]) as running:
        yield running
