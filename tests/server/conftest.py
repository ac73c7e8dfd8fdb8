"""One server for all tests that only ask it something; tests that change it start their own with ``serving``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.running import Running, fill, serving


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
