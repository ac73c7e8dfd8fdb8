"""Servers for the tests of requests that are refused: one without keys, one with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gpux.server.security.keys import SCOPES, create_key
from tests.server.security.serving import Local, local, settings

LISTED = "https://app.example.org"
NAME = "models.example.org"


@dataclass(frozen=True)
class Keys:
    """A key for each scope, and one for all."""

    file: Path
    read: str
    infer: str
    manage: str
    all: str

    def header(self, scope: str) -> dict[str, str]:
        return {"authorization": f"Bearer {getattr(self, scope)}"}


@pytest.fixture(scope="package")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """Without keys and without models; one more host and one more origin are allowed."""
    home = tmp_path_factory.mktemp("open")
    with local(settings(home, allowed_hosts=(NAME,), allowed_origins=(LISTED,))) as running:
        yield running


@pytest.fixture(scope="package")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    found = [create_key(file, scope, scopes=[scope])[0] for scope in SCOPES]
    return Keys(file, *found, create_key(file, "all", scopes=SCOPES)[0])


@pytest.fixture(scope="package")
def keyed_server(filled_home: Path, keys: Keys) -> Iterator[Local]:
    """With keys and models."""
    with local(settings(filled_home, api_keys=keys.file, allowed_origins=(LISTED,))) as running:
        yield running
