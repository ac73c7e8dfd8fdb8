"""A server with both kinds of providers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chat.service.conftest import home as home
from tests.chat.service.talking import chatting
from tests.ollama.running import RunningOllama
from tests.server.running import Running


def both(ollama: RunningOllama, more: str = "") -> str:
    """A configuration with the models of gpux and of an Ollama."""
    return f'default_provider = "ollama"\n{more}\n[providers.ollama]\nbase_url = "{ollama.url}"  # here\n'


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, filled_store: Path, ollama: RunningOllama) -> Iterator[Running]:
    """A running server, whose configuration tests do not change."""
    home = tmp_path_factory.mktemp("chat-api")
    (home / "store").symlink_to(filled_store / "store")
    with chatting(home, both(ollama)) as running:
        yield running
