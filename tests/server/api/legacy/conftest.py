"""A server of its own for the legacy API, whose tests register models; they use ids that no other test uses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpux.store import Store
from gpux.system.settings import Settings
from tests.pipelines.picture_models import classifier
from tests.pipelines.writer import writer
from tests.server.running import Running, put, serving

#: Ids of the documentation that stand for tiny models here.
DOCUMENTED = ("gpt2", "microsoft/DialoGPT-medium")


PICTURES = "tests/pictures"  #: a classifier of pictures


@pytest.fixture(scope="session")
def legacy_home(filled_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with stored models, also under the ids that the documentation names."""
    home = tmp_path_factory.mktemp("legacy") / "home"
    shutil.copytree(filled_home, home, ignore=shutil.ignore_patterns("*.log", "*.db*", "server"))
    settings = Settings.from_env({"GPUX_HOME": str(home), "HF_HOME": str(home / "hf")})
    model = writer(tmp_path_factory.mktemp("writer"))
    for id in DOCUMENTED:
        put(Store(settings.store), model, id)
    put(Store(settings.store), classifier(tmp_path_factory.mktemp("pictures")), PICTURES)
    return home


@pytest.fixture(scope="session")
def legacy(legacy_home: Path) -> Iterator[Running]:
    """A running server."""
    with serving(legacy_home) as running:
        yield running
