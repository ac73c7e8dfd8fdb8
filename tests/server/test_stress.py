"""A small version of scripts/server_stress.py: kills amid requests, and many requests at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from scripts.server_stress import kill, under_load


@pytest.fixture
def home(filled_home: Path, tmp_path: Path) -> Path:
    """Stored models that a test may leave in any state."""
    return Path(shutil.copytree(filled_home, tmp_path / "home", symlinks=True))


def test_no_request_is_lost_and_nothing_runs_at_the_end(home: Path) -> None:
    assert under_load(home, clients=12, seconds=1.5, seed=5, flat=False) == []


@pytest.mark.parametrize("kind", ["server", "worker"])
def test_a_kill_amid_requests_damages_nothing(home: Path, kind: str) -> None:
    assert kill(home, kind, 0.4, seed=6, clients=4) == []
