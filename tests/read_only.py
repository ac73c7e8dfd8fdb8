"""Folders that nobody can write to, the superuser neither."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """The folder on a read-only mount; without the right to mount, which the superuser has, without write permission.

    Skips the test where neither has an effect.
    """
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        with _without_permission(folder):
            yield folder
        return
    if sys.platform != "linux" or shutil.which("mount") is None or not _mount("--bind", folder, folder):
        pytest.skip("no read-only folder can be made")
    try:
        if not _mount("-o", "remount,ro,bind", folder):
            pytest.skip("no read-only folder can be made")
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def _without_permission(folder: Path) -> Iterator[None]:
    inner = [folder, *(path for path in folder.rglob("*") if not path.is_symlink())]
    modes = {path: path.stat().st_mode for path in inner}
    try:
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def _mount(*args: str | Path) -> bool:
    return subprocess.run(["mount", *args], capture_output=True, check=False).returncode == 0


@pytest.fixture(name="frozen")
def frozen_fixture() -> Iterator[Callable[[Path], None]]:
    """Makes folders read-only until the test ends."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda folder: (stack.enter_context(read_only(folder)), None)[1]
