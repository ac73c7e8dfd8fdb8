"""Hashes of local files are kept, and never for a file that changed."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpux import Settings, errors
from gpux.managers import file_hashes
from gpux.managers.file_hashes import FileHashes
from gpux.managers.local import LocalManager
from gpux.system.cancel import CancelToken
from gpux.system.hashing import HashJob, hash_bytes

Read = Callable[[], list[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    for file in folder.rglob("*.*"):
        make_old(file)
    return folder


def make_old(file: Path) -> None:
    """Let the file look unchanged for an hour; the change time stays, and is waited for."""
    os.utime(file, ns=(time.time_ns() - 3600 * 10**9,) * 2)


def settle(file: Path) -> None:
    """Wait until the times of a file are older than a tick of the file system's clock."""
    state = file.stat()
    fine = state.st_ctime_ns % 10**9 or state.st_mtime_ns % 10**9
    tick = file_hashes._TICK if fine else file_hashes._COARSE_TICK
    while time.time_ns() <= max(state.st_mtime_ns, state.st_ctime_ns) + tick:
        time.sleep(0.01)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """The names of the files that were read since the last call."""
    names: list[str] = []
    original = file_hashes.hash_files

    def recorded(jobs: list[HashJob], *rest: object) -> object:
        names.extend(job.name for job in jobs)
        return original(jobs, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(file_hashes, "hash_files", recorded)

    def since() -> list[str]:
        found = sorted(names)
        names.clear()
        return found

    return since


def commit(folder: Path, home: Path) -> str:
    return LocalManager(Settings.from_env(home=home)).resolve(folder).commit


def test_an_unchanged_folder_is_read_once(folder: Path, tmp_path: Path, read: Read) -> None:
    settle(folder / "model.safetensors")
    first = commit(folder, tmp_path / "home")
    assert len(read()) == 3

    assert commit(folder, tmp_path / "home") == first
    assert read() == []
    assert commit(folder, tmp_path / "other home") == first
    assert len(read()) == 3


def replaced(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"wEights")
    stat = file.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file)


def rewritten(file: Path) -> None:
    stat = file.stat()
    file.write_bytes(b"weightS")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as an editor or rsync restores times


CHANGES: dict[str, Callable[[Path], object]] = {
    "one byte": lambda file: file.write_bytes(b"weightz"),
    "longer": lambda file: file.write_bytes(b"weights and more"),
    "replaced, with the same size and modification time": replaced,
    "rewritten, with the same size and modification time": rewritten,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_read_again(folder: Path, tmp_path: Path, read: Read, change: str) -> None:
    settle(folder / "model.safetensors")
    first = commit(folder, tmp_path / "home")
    read()

    CHANGES[change](folder / "model.safetensors")

    assert commit(folder, tmp_path / "home") != first
    assert read() == ["model.safetensors"]


def test_names_are_part_of_the_commit(folder: Path, tmp_path: Path) -> None:
    first = commit(folder, tmp_path / "home")
    (folder / "model.safetensors").rename(folder / "model-2.safetensors")
    second = commit(folder, tmp_path / "home")
    (folder / "model-2.safetensors").unlink()

    assert len({first, second, commit(folder, tmp_path / "home")}) == 3


def test_a_hash_is_not_kept_where_a_later_write_could_have_the_same_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "model.safetensors"
    before = file.stat().st_ctime_ns
    monkeypatch.setattr(time, "time_ns", lambda: before)  # the file was written in this tick
    commit(folder, tmp_path / "home")

    kept = [json.loads(path.read_text()) for path in (tmp_path / "home" / "hashes").glob("*.json")]
    assert not any(str(file) in document["files"] for document in kept)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"schema": 1}', b'{"schema": 9, "root": "x", "files": {}}'])
def test_a_damaged_cache_is_ignored(folder: Path, tmp_path: Path, damage: bytes) -> None:
    settle(folder / "model.safetensors")
    first = commit(folder, tmp_path / "home")
    (kept,) = (tmp_path / "home" / "hashes").glob("*.json")
    kept.write_bytes(damage)

    assert commit(folder, tmp_path / "home") == first


def test_a_cache_that_cannot_be_written_is_ignored(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    assert commit(folder, tmp_path / "file")


def test_the_oldest_folders_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hashes, "KEPT", 2)
    for number in range(4):
        root = tmp_path / f"model {number}"
        root.mkdir()
        (root / "a").write_bytes(b"x")
        settle(root / "a") if number == 0 else None
        FileHashes(tmp_path / "hashes", root).of([root / "a"], CancelToken())

    assert len(list((tmp_path / "hashes").iterdir())) <= 2


def test_a_file_that_never_stops_changing_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"x")
    original = file_hashes.hash_files

    def grows(*args: object) -> object:
        file.write_bytes(file.read_bytes() + b"x")
        return original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(file_hashes, "hash_files", grows)
    with pytest.raises(errors.CorruptFileError, match="changes while it is read"):
        FileHashes(tmp_path / "hashes", tmp_path).of([file], CancelToken())


def test_several_processes_may_share_the_cache(folder: Path, tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(commit(folder, tmp_path / "home"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8 and len(set(found)) == 1


def test_the_hashes_are_those_of_the_contents(folder: Path, tmp_path: Path) -> None:
    for _ in range(2):
        info = LocalManager(Settings.from_env(home=tmp_path / "home")).resolve(folder)
        assert {file.path: file.sha256 for file in info.files} == {
            file.relative_to(folder).as_posix(): hash_bytes(file.read_bytes(), "sha256") for file in folder.rglob("*.*")
        }
