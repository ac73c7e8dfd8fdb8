"""A fake worker as a real process, requests, and the environment that real conversions need."""

from __future__ import annotations

import shutil
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from gpux.convert.base import ConversionRequest
from gpux.convert.host.pip import create_environment, interpreter
from gpux.system.cancel import CancelToken
from gpux.system.launch import launch_command
from gpux.system.process import converse
from gpux.system.settings import Settings

FAKE = Path(__file__).parents[1] / "system" / "fake_worker.py"


@pytest.fixture(scope="session")
def toolchain_python(toolchains: Path) -> Path:
    """The interpreter of the toolchain `optimum`."""
    return interpreter(toolchains / "optimum")


@pytest.fixture(scope="session")
def warm_python(warm_toolchains: Path) -> Path:
    """The same with torch imported already, for tests of what a conversion writes."""
    return interpreter(warm_toolchains / "optimum")


@pytest.fixture(scope="session")
def environment(shared_folder: Callable[[str], Path]) -> Path:
    """A virtual environment with pip, made once in the real way, which takes several seconds of processor time."""
    folder = shared_folder("environment")
    with FileLock(folder / "lock"):
        if not (folder / "done").exists():
            create_environment(folder / "made", folder / "venv.log", CancelToken())
            (folder / "done").touch()
    return folder / "made"


@pytest.fixture
def copied_environments(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Toolchains get a copy of the environment, for tests of what is installed in it."""

    def copy(folder: Path, log: Path, cancel: CancelToken) -> Path:
        return interpreter(Path(shutil.copytree(environment, folder, symlinks=True)))

    for module in ("pip", "toolchain"):
        monkeypatch.setattr(f"gpux.convert.host.{module}.create_environment", copy)


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.from_env()


@pytest.fixture
def make_request(tmp_path: Path) -> Callable[..., ConversionRequest]:
    def make(source: Path | None = None, task: str = "feature-extraction", **values: object) -> ConversionRequest:
        for name in ("output", "reference"):
            (tmp_path / name).mkdir(exist_ok=True)
        return ConversionRequest(
            source or tmp_path,
            tmp_path / "output",
            tmp_path / "reference",
            tmp_path / "logs" / "conversion.log",
            "org/name",
            task,
            **values,  # type: ignore[arg-type]
        )

    return make


@pytest.fixture
def fake_python(tmp_path: Path) -> Callable[[str], Path]:
    """An "interpreter" that runs the fake worker with one behaviour, whatever program it is given."""

    def make(behaviour: str) -> Path:
        file = tmp_path / f"python-{behaviour}"
        file.write_text(f"#!/bin/sh\nexec {sys.executable} -I {FAKE} {behaviour}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return file

    return make


@pytest.fixture
def ask_worker(tmp_path: Path) -> Callable[..., dict[str, object]]:
    """The result of a worker for a request, in an interpreter."""

    def ask(python: Path, program: str, request: dict[str, object]) -> dict[str, object]:
        events: list[Mapping[str, Any]] = []
        log = tmp_path / "worker.log"
        converse(launch_command(python, program), request, log=log, on_event=events.append, cancel=CancelToken())
        assert events[-1]["event"] == "result", (events[-1], log.read_text())
        return dict(events[-1])

    return ask
