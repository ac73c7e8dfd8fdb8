"""A home folder with models for tests that start a server of their own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, filled_store: Path) -> Path:
    """A home folder of a test's own, with the stored models."""
    made = tmp_path / "home"
    made.mkdir()
    (made / "store").symlink_to(filled_store / "store")
    return made
