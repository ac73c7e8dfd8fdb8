from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpux.errors import DiskFullError, GpuxError, NotWritableError, StorageError
from gpux.model.units import format_bytes
from gpux.store import Store, place
from gpux.system.disk import FAILED, FULL, REFUSED, disk_errors, free_bytes, make_cache_folder
from tests.store.processes import run
from tests.store.variants import COMMIT, COMMITS, ID, commit


def raised(number: int, path: Path) -> GpuxError:
    with pytest.raises(GpuxError) as caught, disk_errors(path, needed=5_000_000):
        raise OSError(number, os.strerror(number), str(path / "file"))
    return caught.value


@pytest.mark.parametrize(
    ("numbers", "kind"), [(REFUSED, NotWritableError), (FULL, DiskFullError), (FAILED, StorageError)]
)
def test_every_errno_of_the_disk_is_mapped(tmp_path: Path, numbers: frozenset[int], kind: type[GpuxError]) -> None:
    for number in numbers:
        error = raised(number, tmp_path)
        assert type(error) is kind
        assert str(tmp_path) in error.message
        assert os.strerror(number) in error.message
        assert "GPUX_HOME" in (error.hint or "")
        assert isinstance(error.__cause__, OSError)
        assert pickle.loads(pickle.dumps(error)).to_dict() == error.to_dict()


def test_a_full_disk_error_has_sizes(tmp_path: Path) -> None:
    error = raised(errno.ENOSPC, tmp_path)
    assert error.details["needed"] == 5_000_000
    assert error.details["free"] > 0
    assert "5.0 MB needed" in error.message


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "no"), BrokenPipeError(errno.EPIPE, "no"), KeyError()]
)
def test_other_errors_pass_unchanged(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, disk_errors(tmp_path):
        raise error
    assert caught.value is error


def test_another_hint(tmp_path: Path) -> None:
    with pytest.raises(NotWritableError) as caught, disk_errors(tmp_path, hint="Set HF_HUB_CACHE."):
        raise PermissionError(errno.EACCES, "no")
    assert caught.value.hint == "Set HF_HUB_CACHE."


def test_free_bytes_at_a_missing_path(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.1)


def test_format_bytes() -> None:
    assert [format_bytes(count) for count in (0, 999, 1000, 87_300_000, 2_500_000_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "87.3 MB",
        "2.5 TB",
    ]


@pytest.mark.parametrize("place_of_file", ["", "store", "store/staging", "store/locks"])
def test_a_file_in_the_place_of_a_folder(tmp_path: Path, place_of_file: str) -> None:
    home = tmp_path / "other"
    blocked = home / place_of_file
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("")
    store = Store(home / "store")
    with pytest.raises(NotWritableError) as caught, store.lock("hf", ID, COMMIT, "fill-mask", "fp32"):
        commit(store)
    assert str(store.root) in caught.value.message
    assert store.models() == []


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="needs POSIX permissions")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        error = json.loads(run("unprivileged", tmp_path / "store"))
    finally:
        tmp_path.chmod(0o700)
    assert error["code"] == "not_writable"
    assert error["path"] == str(tmp_path / "store")


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_file_size_limit_counts_as_full(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    error = json.loads(run("too_large", store.root))
    assert error["code"] == "disk_full"
    assert error["free"] > 0
    assert not store.models()
    assert not list((store.root / "staging").iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where the system lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        allowed = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    store = Store(small_disk / "store")
    kept = commit(store)
    big = tmp_path / "blob"
    big.write_bytes(bytes(3_000_000))
    with store.staging() as staging:
        with pytest.raises(DiskFullError) as caught:
            place(big, staging.path / "model.onnx")
        assert caught.value.details["needed"] == 3_000_000
        assert caught.value.details["free"] < 1 << 20
        assert not list(staging.path.iterdir())
    with store.staging() as staging, pytest.raises(DiskFullError):
        while True:
            commit(store, commit=COMMITS[1], replace=True, files={"model.onnx": bytes(300_000)})
            place(big, staging.path / "model.onnx")
    assert kept in store.models()
    assert all(store.verify(model).ok for model in store.models())


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_folder_that_cannot_be_created() -> None:
    home = Path("/proc/nope")
    for act in (make_cache_folder, lambda folder: commit(Store(folder / "store"))):
        with pytest.raises(NotWritableError) as caught:
            act(home)
        assert "/proc/nope" in caught.value.message and "GPUX_HOME" in str(caught.value.hint)
    with pytest.raises(NotWritableError), disk_errors(home):
        (home / "blobs" / "deep").mkdir(parents=True)


def test_a_missing_file_is_not_a_missing_folder(tmp_path: Path) -> None:
    for guarded in (tmp_path, tmp_path / "file"):
        with pytest.raises(FileNotFoundError), disk_errors(guarded):
            (tmp_path / "file").unlink()
