"""Atomic writes, and folders that are exchanged."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gpux.system.files import exchange, replacing, write_atomic
from tests.store.variants import can_exchange


def test_two_folders_are_exchanged(tmp_path: Path) -> None:
    if not can_exchange(tmp_path):
        pytest.skip("this file system cannot")
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / folder.name).touch()
    assert exchange(first, second)
    assert (first / "second").exists()
    assert (second / "first").exists()


def test_a_missing_folder_is_not_exchanged(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    assert not exchange(tmp_path / "first", tmp_path / "second")
    assert not exchange(tmp_path / "second", tmp_path / "first")
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "home"] == ["first"]


@pytest.mark.parametrize("flush", [False, True])
def test_a_file_is_written_in_one_step(tmp_path: Path, flush: bool) -> None:
    file = tmp_path / "value.json"
    write_atomic(file, "old\n", flush=flush)
    write_atomic(file, "new ü\n", flush=flush)
    assert file.read_bytes() == "new ü\n".encode()
    write_atomic(file, b"\xff\r\n", flush=flush)
    assert file.read_bytes() == b"\xff\r\n"
    assert [entry.name for entry in tmp_path.glob(".*")] == []


def test_after_an_error_the_old_content_remains(tmp_path: Path) -> None:
    file = tmp_path / "value.json"
    file.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(file) as part:
        part.write_text("half")
        1 / 0  # noqa: B018 - the block ends before it is complete
    with pytest.raises(UnicodeEncodeError):
        write_atomic(file, "\udcff")
    assert file.read_text() == "old"
    assert [entry.name for entry in tmp_path.glob(".*")] == []


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "none" / "value.json", "x")


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "value").mkdir()
    with pytest.raises(OSError):
        write_atomic(tmp_path / "value", "x")
    assert [entry.name for entry in tmp_path.glob(".*")] == []


@pytest.mark.skipif(sys.platform == "win32", reason="links and modes of POSIX")
def test_links_are_replaced_and_private_files_have_mode_600(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    (tmp_path / "link").symlink_to("other")
    write_atomic(tmp_path / "link", "x", private=True)
    assert (tmp_path / "other").read_text() == "other"
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").stat().st_mode & 0o777 == 0o600
    write_atomic(tmp_path / "plain", "x")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "plain").stat().st_mode & 0o777 == 0o666 & ~mask


def test_what_a_killed_process_left_under_a_fixed_name_is_overwritten(tmp_path: Path) -> None:
    part = tmp_path / "value.part"
    part.write_text("left by a killed process")
    write_atomic(tmp_path / "value", "x", temporary=part)
    assert (tmp_path / "value").read_text() == "x" and not part.exists()
