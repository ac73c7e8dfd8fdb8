"""The interface of a manager, which resolves, describes and downloads the models of one source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from gpux.errors import GpuxError, UnsupportedError
from gpux.inspect.reads import FileReads, Part
from gpux.model.info import ModelFile, ModelInfo, ModelPage, Revision, SourceSnapshot
from gpux.model.reference import ModelRef, Reference
from gpux.system.cancel import CancelToken
from gpux.system.plugins import service
from gpux.system.progress import ProgressCallback
from gpux.system.settings import Settings

if TYPE_CHECKING:
    from gpux.model.variant import StoredModel
    from gpux.store import Store


class ModelManager(ABC):
    """One source of models, registered under its scheme (entry points ``gpux.managers``).

    Methods accept a reference as a string or path, or a parsed :class:`~gpux.model.reference.ModelRef`, and raise
    :class:`~gpux.errors.ManagerError` or one of its subclasses.
    """

    scheme: ClassVar[str]

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        home: Path | None = None,
        toolchains: Path | None = None,
        hf_cache: Path | None = None,
        token_path: Path | None = None,
        endpoint: str | None = None,
        token: str | None = None,
        offline: bool | None = None,
        timeout: float | None = None,
        ca_bundle: Path | None = None,
        torch_index: str | None = None,
        max_cache: int | None = None,
    ) -> None:
        """Use ``settings``, by default those of the environment, with every keyword that is not None in its place."""
        self.settings = (settings or Settings.from_env()).with_overrides(
            home=home,
            toolchains=toolchains,
            hf_cache=hf_cache,
            token_path=token_path,
            endpoint=endpoint,
            token=token,
            offline=offline,
            timeout=timeout,
            ca_bundle=ca_bundle,
            torch_index=torch_index,
            max_cache=max_cache,
        )

    @abstractmethod
    def resolve(self, ref: Reference, *, cancel: CancelToken | None = None) -> ModelInfo:
        """Resolve a reference to a commit, its files and metadata, with at most one request.

        Raises:
            ModelNotFoundError: the model does not exist, or this user may not see it.
            RevisionNotFoundError: the model has no such revision.
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
        """Download ``paths`` of the model and check every file against its hash.

        Raises:
            EntryNotFoundError: the model has no such file.
            CorruptFileError: a file had a wrong hash, and again after a second download.
            DiskFullError: the disk of the source cache is full.
            CancelledError: ``cancel`` was set; the bytes received so far are kept.
        """

    def page(self, ref: Reference, *, cancel: CancelToken | None = None) -> ModelPage:
        """Resolve a reference and read its model card, with at most one request; raises as :meth:`resolve` does."""
        return ModelPage(self.resolve(ref, cancel=cancel))

    def open_reads(self, info: ModelInfo, *, network: bool = True) -> FileReads:
        """Open the model's files for reading byte ranges without downloading whole files; the caller closes the result.

        With ``network=False`` only files on this machine are read, and no request is made.

        Raises:
            UnsupportedError: this manager downloads whole files only.
        """
        raise UnsupportedError(f"the manager of {self.scheme} models cannot read parts of files", model=info.id)

    def read_range(self, info: ModelInfo, path: str, start: int, stop: int) -> bytes:
        """Read the bytes ``[start, stop)`` of one file; fewer if the file is shorter.

        Raises:
            EntryNotFoundError: the model has no such file.
            ManagerError: the source refused; the subclass is the reason.
        """
        with self.open_reads(info) as reads:
            return reads.read(path, start, stop)

    def read_ranges(self, info: ModelInfo, parts: Sequence[Part]) -> list[bytes | GpuxError]:
        """Read several ``(path, start, stop)`` ranges concurrently; a range that fails yields its error."""
        with self.open_reads(info) as reads:
            return reads.read_each(parts)

    def cached(self, info: ModelInfo, paths: Iterable[str]) -> set[str]:
        """The ``paths`` that are on this machine in full length; :meth:`fetch` checks their hashes."""
        return set()

    def discard(self, id: str, commit: str) -> int:
        """Remove the source files of one commit from this machine, except those that other commits use.

        Returns the bytes that were freed; 0 for a source whose files are not copies.

        Raises:
            NotWritableError: the source cache cannot be written.
        """
        return 0

    def check_unchanged(self, id: str, commit: str) -> None:  # noqa: B027 - files in a cache do not change
        """Return if the files of a commit are as they were when it was resolved; checked before a variant is stored.

        Raises:
            CorruptFileError: they changed, which only files that are used in place can.
        """

    @abstractmethod
    def search_models(
        self, query: str = "", *, task: str | None = None, author: str | None = None, limit: int = 20
    ) -> list[ModelInfo]:
        """The models that match the query and the filters, most downloaded first."""

    @abstractmethod
    def list_revisions(self, ref: Reference) -> list[Revision]:
        """The branches, tags and pull requests of a model, with their commits."""

    def get_model_info(self, ref: Reference, *, revision: str | None = None) -> ModelInfo:
        """The metadata and the file list of a model; no file is downloaded."""
        return self.resolve(ModelRef.parse(ref).at(revision))

    def list_model_files(self, ref: Reference, *, revision: str | None = None) -> list[ModelFile]:
        """All files of a model at one commit, with sizes and hashes where the source provides them."""
        return list(self.get_model_info(ref, revision=revision).files)

    def detect_format(self, ref: Reference, *, revision: str | None = None) -> tuple[str, ...]:
        """The formats of a model's weights, for example ``("onnx", "safetensors")``."""
        return self.get_model_info(ref, revision=revision).formats

    def pull_model(
        self,
        ref: Reference,
        *,
        revision: str | None = None,
        task: str | None = None,
        precision: str | None = None,
        device: str = "auto",
        force: bool = False,
        convert: bool = False,
        converter: str | None = None,
        prove: bool = False,
        allow_inexact: bool = False,
        trust_remote_code: bool = False,
        discard_source: bool = False,
        ignore_disk_space: bool = False,
        ignore_memory: bool = False,
        store: Store | None = None,
        progress: ProgressCallback | bool | None = None,
        cancel: CancelToken | None = None,
    ) -> StoredModel:
        """Download, convert, prove and store a model of this source, as :func:`gpux.pull_model` does.

        The keywords are those of :func:`gpux.pull_model`, which describes them and the errors.
        """
        pulled: StoredModel = service("pull_model")(
            ref,
            revision=revision,
            task=task,
            precision=precision,
            device=device,
            force=force,
            convert=convert,
            converter=converter,
            prove=prove,
            allow_inexact=allow_inexact,
            trust_remote_code=trust_remote_code,
            discard_source=discard_source,
            ignore_disk_space=ignore_disk_space,
            ignore_memory=ignore_memory,
            manager=self,
            store=store,
            progress=progress,
            cancel=cancel,
        )
        return pulled
