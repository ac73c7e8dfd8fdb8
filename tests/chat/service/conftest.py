"""A server that chats, for all tests that only talk to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chat.service.talking import chatting
from tests.server.running import Running


@pytest.fixture
def home(tmp_path: Path, filled_store: Path) -> Path:
    """A home folder of a test's own, with the stored models."""
    made = tmp_path / "home"
    made.mkdir()
    (made / "store").symlink_to(filled_store / "store")
    return made


@pytest.fixture(scope="session")
def chat(tmp_path_factory: pytest.TempPathFactory, filled_store: Path) -> Iterator[Running]:
    """A running server with models of gpux; tests leave its models and settings as they are."""
    home = tmp_path_factory.mktemp("chat-home")
    (home / "store").symlink_to(filled_store / "store")
    with chatting(home) as running:
        yield running
