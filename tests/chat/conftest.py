"""Servers and models that the tests of chats share; a server starts for the first test that uses it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpux.server.security.keys import create_key
from tests.chat.service.talking import chatting, endless, reload, with_ollama
from tests.ollama.running import RunningOllama, running_ollama
from tests.server.running import Running, fill, serving

#: Makes a home folder with the stored models.
Home = Callable[[str], Path]
#: In the environment of the server whose configuration changes.
SECRET = {"OLLAMA_KEY": "wrong-key-in-secret"}


@pytest.fixture(scope="session")
def filled_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with stored models; only its store is used."""
    home = tmp_path_factory.mktemp("chat-models")
    endless(home, fill(home))
    return home


@pytest.fixture(scope="session")
def new_home(tmp_path_factory: pytest.TempPathFactory, filled_store: Path) -> Home:
    def made(name: str) -> Path:
        home = tmp_path_factory.mktemp(name)
        (home / "store").symlink_to(filled_store / "store")
        return home

    return made


@pytest.fixture(scope="session")
def ollama() -> Iterator[RunningOllama]:
    """An Ollama that tests leave running."""
    with running_ollama() as running:
        yield running


@pytest.fixture(scope="session")
def gpux_server(new_home: Home) -> Iterator[Running]:
    """A server of models without chats, to which chat providers are clients."""
    with serving(new_home("second-server"), ["--no-chat"]) as running:
        yield running


@pytest.fixture(scope="session")
def chat(new_home: Home) -> Iterator[Running]:
    """A running server with models of gpux alone, which tests leave with the same settings and running."""
    with chatting(new_home("chat-home")) as running:
        yield running


@pytest.fixture(scope="session")
def changed_server(new_home: Home, ollama: RunningOllama) -> Iterator[Running]:
    with chatting(new_home("chat-changed"), with_ollama(ollama.url), **SECRET) as running:
        yield running


@pytest.fixture
def changing(changed_server: Running, ollama: RunningOllama) -> Iterator[Running]:
    """A running server with models of gpux and of an Ollama, whose configuration a test may change."""
    yield changed_server
    reload(changed_server, with_ollama(ollama.url))


@dataclass(frozen=True)
class Keyed:
    """A server that needs keys."""

    server: Running
    file: Path

    def key(self, name: str, *scopes: str) -> str:
        """A new key."""
        return create_key(self.file, f"{name}-{secrets.token_hex(4)}", scopes=scopes)[0]

    def headers(self, name: str, *scopes: str) -> dict[str, str]:
        """The header with a new key."""
        return {"authorization": f"Bearer {self.key(name, *scopes)}"}


@pytest.fixture(scope="session")
def keyed(new_home: Home, ollama: RunningOllama) -> Iterator[Keyed]:
    """A running server that needs keys, with models of gpux and of an Ollama."""
    home = new_home("chat-keys")
    keys = home / "keys.json"
    create_key(keys, "first")
    with chatting(home, with_ollama(ollama.url), "--api-key-file", str(keys)) as running:
        yield Keyed(running, keys)
