from __future__ import annotations

from pathlib import Path

import pytest

from gpux.errors import NotWritableError
from gpux.store import place

CONTENT = bytes(range(256)) * 9000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file as in a snapshot of the source cache: a link to a read-only blob."""
    blob = tmp_path / "blobs" / "hash"
    blob.parent.mkdir()
    blob.write_bytes(CONTENT)
    blob.chmod(0o444)
    link = tmp_path / "model.onnx"
    link.symlink_to(blob)
    return link


def test_a_placed_file_is_a_real_file(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "variant" / "onnx" / "model.onnx"
    place(source, target)
    assert target.read_bytes() == CONTENT
    status = target.lstat()
    assert not target.is_symlink()
    assert status.st_nlink == 1
    assert status.st_ino != source.stat().st_ino
    target.write_bytes(b"damage")
    assert source.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["file", "symlink", "hard link"])
def test_an_existing_target_is_replaced_and_not_written_through(source: Path, tmp_path: Path, kind: str) -> None:
    target, other = tmp_path / "target", tmp_path / "other"
    other.write_bytes(b"precious")
    match kind:
        case "file":
            target.write_bytes(b"old")
        case "symlink":
            target.symlink_to(other)
        case _:
            target.hardlink_to(other)
    place(source, target)
    assert target.read_bytes() == CONTENT
    assert other.read_bytes() == b"precious"


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    place(tmp_path / "empty", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b""


def test_a_missing_source_and_a_full_disk(source: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        place(tmp_path / "missing", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    (tmp_path / "file").touch()
    with pytest.raises(NotWritableError):
        place(source, tmp_path / "file" / "target")
