"""The request and the collaborators of one pull, which every step of the pull receives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from gpux.convert.base import Converter
from gpux.managers.base import ModelManager
from gpux.model.info import ModelInfo
from gpux.model.reference import ModelRef
from gpux.model.transfer import TransferReport
from gpux.model.variant import StoredModel
from gpux.runtime.session import Session
from gpux.store import Store
from gpux.system.cancel import CancelToken
from gpux.system.progress import Stages
from gpux.system.settings import Settings

#: Opens a graph for a check or the proof.
SessionFactory = Callable[[Path], Session]


@dataclass(frozen=True)
class PullContext:
    """One pull: what the user requested, and the objects that carry it out.

    The options are those of :func:`gpux.pull_model`; ``task`` is the Hub's name or None, ``precision`` is canonical or
    ``auto``, and ``ref`` has no precision of its own.
    """

    ref: ModelRef
    manager: ModelManager
    settings: Settings
    store: Store
    converters: Mapping[str, Converter]
    stages: Stages
    cancel: CancelToken
    task: str | None = None
    precision: str = "fp32"
    device: str = "auto"
    force: bool = False
    convert: bool = False
    converter: str | None = None
    prove: bool = False
    allow_inexact: bool = False
    trust_remote_code: bool = False
    discard_source: bool = False
    ignore_disk_space: bool = False
    ignore_memory: bool = False
    open_session: SessionFactory = lambda path: Session(path, device="cpu")
    transfers: list[TransferReport] = field(default_factory=list)  #: of the downloads so far

    @property
    def converts(self) -> bool:
        """True where the original weights are converted although the repository ships ONNX."""
        return self.convert or self.converter is not None

    def accepts(self, model: StoredModel) -> bool:
        """True if a stored variant is what was requested and has all its files (``gpux verify`` checks hashes)."""
        manifest = model.manifest
        if self.convert and not manifest.recipe.is_converted:
            return False
        if self.converter is not None and manifest.recipe.converter != self.converter:
            return False
        if self.prove and manifest.proof.status == "shipped":
            return False
        if manifest.proof.status == "inexact" and not self.allow_inexact:
            return False
        return self.store.verify(model, hashes=False).ok

    def find_stored(self, info: ModelInfo, task: str, precision: str) -> StoredModel | None:
        """The stored variant that the pull would return, or None."""
        found = self.store.find(info.scheme, info.id, info.commit, task=task, precision=precision)
        return found if found is not None and self.accepts(found) else None

    def lock(self, info: ModelInfo, task: str, precision: str) -> AbstractContextManager[None]:
        """Keep other processes and threads from creating the same variant."""

        def on_wait() -> None:
            self.stages.warn("another process is working on this model; waiting for it")

        return self.store.lock(info.scheme, info.id, info.commit, task, precision, cancel=self.cancel, on_wait=on_wait)
