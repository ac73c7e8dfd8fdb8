"""A server with both kinds of providers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chat.conftest import Home
from tests.chat.service.conftest import home as home
from tests.chat.service.talking import chatting, with_ollama
from tests.ollama.running import RunningOllama
from tests.server.running import Running


@pytest.fixture(scope="session")
def server(new_home: Home, ollama: RunningOllama) -> Iterator[Running]:
    """A running server, whose configuration tests do not change."""
    with chatting(new_home("chat-api"), with_ollama(ollama.url)) as running:
        yield running
