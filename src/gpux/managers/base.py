"""What a manager is: it resolves, describes and fetches models of one source, nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from gpux.errors import GpuxError, UnsupportedError
from gpux.inspect.reads import FileReads, Part
from gpux.model.info import ModelFile, ModelInfo, Revision, SourceSnapshot
from gpux.model.page import ModelPage
from gpux.model.reference import ModelRef, Reference
from gpux.system.cancel import CancelToken
from gpux.system.plugins import service
from gpux.system.progress import ProgressCallback
from gpux.system.settings import Settings

if TYPE_CHECKING:
    from gpux.model.variant import StoredModel


class ModelManager(ABC):
    """One source of models, registered under its scheme (entry points ``gpux.managers``).

    Every method takes what a user types or a parsed :class:`~gpux.model.reference.ModelRef`, and raises
    :class:`~gpux.errors.ManagerError` or one of its subclasses.
    """

    scheme: ClassVar[str]

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        self.settings = (settings or Settings.from_env()).with_overrides(**overrides)

    @abstractmethod
    def resolve(self, ref: Reference, *, cancel: CancelToken | None = None) -> ModelInfo:
        """The model at a commit: one request at most.

        Raises:
            ModelNotFoundError: there is none, or no right to see it.
            RevisionNotFoundError: it has no such revision.
        """

    @abstractmethod
    def fetch(
        self,
        info: ModelInfo,
        paths: Iterable[str],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> SourceSnapshot:
        """Bring ``paths`` of the model to this machine, every byte checked against its hash.

        Raises:
            EntryNotFoundError: the model has no such file.
            CorruptFileError: what arrives is not what was promised, twice.
            DiskFullError: the source cache has no room.
            CancelledError: ``cancel`` was set; what arrived is kept.
        """

    def page(self, ref: Reference, *, cancel: CancelToken | None = None) -> ModelPage:
        """The model at a commit and its card: one request at most; raises as :meth:`resolve` does."""
        return ModelPage(self.resolve(ref, cancel=cancel))

    def open_reads(self, info: ModelInfo, *, ask: bool = True) -> FileReads:
        """Parts of the model's files, to be read where they lie; the caller closes it.

        Without ``ask``, only what is on this machine is read.

        Raises:
            UnsupportedError: this manager brings whole files only.
        """
        raise UnsupportedError(f"{self.scheme} models are read whole only", model=info.id)

    def read_range(self, info: ModelInfo, path: str, start: int, stop: int) -> bytes:
        """The bytes ``[start, stop)`` of one file; fewer where it ends before.

        Raises:
            EntryNotFoundError: the model has no such file.
            ManagerError: the source refuses; the subclass says why.
        """
        with self.open_reads(info) as reads:
            return reads.read(path, start, stop)

    def read_ranges(self, info: ModelInfo, parts: Sequence[Part]) -> list[bytes | GpuxError]:
        """Several ``(path, start, stop)`` at once, a few at a time; in the place of one that fails stands its error."""
        with self.open_reads(info) as reads:
            return reads.read_each(parts)

    def cached(self, info: ModelInfo, paths: Iterable[str]) -> set[str]:
        """Which of ``paths`` are on this machine already, in full length; their hashes are checked when fetched."""
        return set()

    def discard(self, id: str, commit: str) -> int:
        """Remove a model's source files at one commit from this machine, where nothing else needs them.

        Returns the bytes that this freed: none for a source whose files are not copies.

        Raises:
            NotWritableError: the source cache refuses.
        """
        return 0

    @abstractmethod
    def search_models(
        self, query: str = "", *, task: str | None = None, author: str | None = None, limit: int = 20
    ) -> list[ModelInfo]:
        """Models that match, the most downloaded first."""

    @abstractmethod
    def list_revisions(self, ref: Reference) -> list[Revision]:
        """Branches, tags and pull requests, with their commits."""

    def get_model_info(self, ref: Reference, *, revision: str | None = None) -> ModelInfo:
        """What the source knows of the model, weights not included."""
        return self.resolve(ModelRef.parse(ref).at(revision))

    def list_model_files(self, ref: Reference, *, revision: str | None = None) -> list[ModelFile]:
        """Every file of the model at one commit, with sizes and hashes where the source has them."""
        return list(self.get_model_info(ref, revision=revision).files)

    def detect_format(self, ref: Reference, *, revision: str | None = None) -> tuple[str, ...]:
        """The formats in which the model's weights are there, e.g. ``("onnx", "safetensors")``."""
        return self.get_model_info(ref, revision=revision).formats

    def pull_model(self, ref: Reference, *, revision: str | None = None, **options: Any) -> StoredModel:
        """Bring the model into the store, ready to run; ``options`` are those of :func:`gpux.pull_model`."""
        pulled: StoredModel = service("pull_model")(ModelRef.parse(ref).at(revision), manager=self, **options)
        return pulled
