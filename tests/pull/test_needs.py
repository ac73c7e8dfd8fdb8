"""Disk space and memory that a pull needs, and the errors where there is too little."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpux.errors import DiskFullError, OutOfMemoryError
from gpux.pull.needs import RESERVE, MemoryNeed, SpaceNeed, disk_refusal, memory_refusal, space_needs

GB = 1_000_000_000


def test_needs_on_one_file_system_are_added_up(tmp_path: Path) -> None:
    (need,) = space_needs(
        {"the download": (tmp_path / "a", 10), "the copy": (tmp_path / "b" / "c", 5), "nothing": (tmp_path, 0)}
    )

    assert (need.needed, need.purpose) == (15 + RESERVE, "the download and the copy")
    assert need.fits


def test_too_little_disk_space_is_an_error_with_numbers(tmp_path: Path) -> None:
    error = disk_refusal((SpaceNeed(tmp_path, "the download", 2 * GB, GB),))

    assert isinstance(error, DiskFullError)
    assert "needs 1.9 GB" in error.message and "64.0 MB in reserve" in error.message and "1.0 GB" in error.message
    assert error.details["needed"] == 2 * GB
    assert "--ignore-disk-space" in (error.hint or "")
    assert disk_refusal((SpaceNeed(tmp_path, "the download", 2 * GB, None),)) is None


def test_too_little_memory_is_an_error_with_numbers() -> None:
    error = memory_refusal(MemoryNeed("the conversion", 4 * GB, GB))

    assert isinstance(error, OutOfMemoryError)
    assert "needs about 4.0 GB of memory, and 1.0 GB are available" in error.message
    assert (error.exit_code, error.details) == (8, {"needed": 4 * GB, "available": GB})
    assert "--ignore-memory" in (error.hint or "")


@pytest.mark.parametrize("available", [None, 4 * GB])
def test_enough_or_unknown_memory_is_accepted(available: int | None) -> None:
    assert memory_refusal(MemoryNeed("the conversion", 4 * GB, available)) is None
