"""A Hub whose repositories a test may change, and a catalog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpux import Settings
from gpux.catalog import Catalog
from tests.catalog.repositories import write
from tests.hub import HubServer, User


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "repositories"
    write(folder)
    return folder


@pytest.fixture
def hub(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(root, users={"hf_good": User("ada", orgs=("acme", "meta-llama"))}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
        assert not server.errors


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    return Catalog(settings=settings)
