from __future__ import annotations

from pathlib import Path

import pytest

from gpux.system.swap import exchange
from tests.store.variants import can_exchange


def test_two_folders_change_places(tmp_path: Path) -> None:
    if not can_exchange(tmp_path):
        pytest.skip("this file system cannot")
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / folder.name).touch()
    assert exchange(first, second)
    assert (first / "second").exists()
    assert (second / "first").exists()


def test_nothing_happens_where_one_is_missing(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    assert not exchange(tmp_path / "first", tmp_path / "second")
    assert not exchange(tmp_path / "second", tmp_path / "first")
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "home"] == ["first"]
