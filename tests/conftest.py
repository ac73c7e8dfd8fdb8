"""Gives every test its own home folder, so that no folder, token or endpoint of the machine is used."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from gpux.chat.configuration.variables import names as chat_variables
from gpux.system.launch import LAUNCHER
from tests.warm_toolchain import warm
from tests.zoo_models import ZooModels

#: Modules that the converters' workers import.
OPTIMUM = ("gpux.convert.worker.optimum.export",)
MOBIUS = ("gpux.convert.worker.mobius.build", "gpux.convert.worker.reference.write")

pytest_plugins = ["tests.fixtures_hub"]

# huggingface_hub reads these when it is imported, so they are set before any test module is imported.
os.environ.update(
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_XET="1",
    HF_HUB_DISABLE_UPDATE_CHECK="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    NO_PROXY="127.0.0.1,localhost",
    no_proxy="127.0.0.1,localhost",
)
# Child processes then compile gpux's modules once, and not each of them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Generated inputs: no limit on the time of one example, which depends on the machine's load. Few and the same in every
# run; `--hypothesis-profile=thorough` draws many others.
_untimed = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.register_profile("gpux", _untimed, derandomize=True, max_examples=40)
hypothesis_settings.register_profile("thorough", _untimed, derandomize=False, max_examples=1000)
hypothesis_settings.load_profile("gpux")
# A process started in the background of a shell ignores Ctrl-C, and its child processes inherit that; the tests of
# Ctrl-C would then hang.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
_FOREIGN = (
    *(
        "GPUX_TOOLCHAINS",
        "GPUX_TORCH_INDEX",
        "GPUX_TIMEOUT",
        "GPUX_MAX_CACHE",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "HF_HUB_CACHE",
    ),
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"),
    *("GPUX_CONFIG", *chat_variables()),
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder; gpux writes to ``gpux`` and ``hf`` in it."""
    for name in _FOREIGN:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("GPUX_HOME", str(folder / "gpux"))
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    return folder


@pytest.fixture(autouse=True, scope="session")
def unsynced() -> Iterator[None]:
    """Files are not written through to the disk: no test loses power, and each of the many calls takes milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def toolchains() -> Path:
    """The folder of installed toolchains that this run shares; without installed toolchains the test is skipped."""
    folder = os.environ.get("GPUX_TEST_TOOLCHAINS")
    if not folder or not (Path(folder) / "optimum" / "toolchain.json").is_file():
        pytest.skip(
            "no toolchain: set GPUX_TEST_TOOLCHAINS to a folder in which "
            "`GPUX_TOOLCHAINS=that-folder gpux toolchain install optimum` was run"
        )
    return Path(folder)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Creates folders that all workers of a parallel run share, for files that are slow to build."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    def make(name: str) -> Path:
        folder = root / name
        folder.mkdir(exist_ok=True)
        return folder

    return make


@pytest.fixture(scope="session")
def computed_once(shared_folder: Callable[[str], Path]) -> Callable[[str, Callable[[], Any]], Any]:
    """Computes a JSON value, such as the answers of a reference, in the worker of a parallel run that needs it first.

    Its arguments are the value's name and the function that computes it.
    """

    def get(name: str, compute: Callable[[], Any]) -> Any:
        file = shared_folder("computed") / f"{name}.json"
        with FileLock(file.with_suffix(".lock")):
            if not file.exists():
                file.write_text(json.dumps(compute()), encoding="utf-8")
        return json.loads(file.read_text(encoding="utf-8"))

    return get


@pytest.fixture(scope="session")
def zoo_models(warm_toolchains: Path, shared_folder: Callable[[str], Path]) -> ZooModels:
    """Models of the zoo that the tests of a run share."""
    return ZooModels(shared_folder("zoo"), warm_toolchains)


@pytest.fixture(scope="session")
def warm_toolchains(toolchains: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The toolchains with interpreters that have imported torch already, which saves several seconds per conversion.

    For tests of a conversion's files, not of its process.
    """
    folder = tmp_path_factory.mktemp("warm")
    with ExitStack() as servers:
        for name, modules in (("optimum", OPTIMUM), ("mobius", MOBIUS)):
            if (toolchains / name / "toolchain.json").is_file() and sys.platform == "linux":
                servers.enter_context(warm(toolchains / name, folder / name, LAUNCHER, *modules))
        yield folder if sys.platform == "linux" else toolchains
