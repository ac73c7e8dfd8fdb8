"""Models of the zoo, built and pulled once for all tests of a run, by the worker that needs them first."""

from __future__ import annotations

import subprocess
from pathlib import Path

from filelock import FileLock

from gpux import Settings, StoredModel, pull_model
from gpux.convert.host.pip import interpreter
from tests.models import zoo


class ZooModels:
    """Folders of models, and their variants in a store of their own, which the tests share: neither may be changed.

    Args:
        root: folder that all workers of a run share.
        toolchains: that convert.
    """

    def __init__(self, root: Path, toolchains: Path) -> None:
        self._root = root
        self._toolchains = toolchains

    def build(self, *names: str) -> Path:
        """The folder that holds the folder of each of these models, such as ``bert__fill-mask``; built by one process.

        Args:
            names: of the zoo's entries and special folders.
        """
        folder = self._root / "models"
        with FileLock(self._root / "build.lock"):
            missing = [name for name in names if not self._done(name).exists()]
            if missing:
                program = [interpreter(self._toolchains / "optimum"), zoo.__file__, folder, *missing]
                subprocess.run(program, check=True, capture_output=True)
            for name in missing:
                self._done(name).touch()
        return folder

    def pull(self, model_type: str, task: str, *, requested: str | None = None) -> StoredModel:
        """The variant of an entry.

        Args:
            model_type: of the entry.
            task: of the entry; without ``requested``, the one of the pull too.
            requested: another task for the pull.
        """
        name = zoo.folder_name(model_type, task)
        folder = self.build(name) / name
        settings = Settings.from_env(home=self._root / "home", toolchains=self._toolchains, offline=True)
        with FileLock(self._root / f"{name}.lock"):
            return pull_model(folder, task=requested or task, settings=settings)

    def _done(self, name: str) -> Path:
        return self._root / f"{name}.done"
