"""A small version of scripts/server_stress.py: a kill amid requests, and many requests at once."""

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
    assert under_load(home, clients=8, seconds=0.5, seed=5, flat=False) == []


def test_a_kill_of_a_worker_amid_requests_damages_nothing(home: Path) -> None:
    assert kill(home, "worker", 0.3, seed=6, clients=4, rest=0.3) == []
