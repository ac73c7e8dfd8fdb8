"""One server for all tests that only ask it something; tests that change it start their own with ``serving``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.running import Running, fill, serving
from tests.server.senses import fill_senses


@pytest.fixture(scope="session")
def filled_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with stored models, for this worker process of pytest; read only."""
    home = tmp_path_factory.mktemp("server-home")
    fill(home)
    return home


@pytest.fixture(scope="session")
def server(filled_home: Path) -> Iterator[Running]:
    """A running server with these models; tests leave its models and settings as they are."""
    with serving(filled_home) as running:
        yield running


@pytest.fixture(scope="session")
def senses_home(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``filled_home``, with models of pictures, sounds and further tasks; read only."""
    home = tmp_path_factory.mktemp("senses") / "home"
    shutil.copytree(filled_home, home, ignore=shutil.ignore_patterns("*.log", "*.db*", "server"))
    fill_senses(home)
    return home


@pytest.fixture(scope="session")
def senses(senses_home: Path) -> Iterator[Running]:
    """A running server with models of every sense; tests leave its models and settings as they are."""
    with serving(senses_home) as running:
        yield running
