"""Models of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpux.cancel import CancelToken
from gpux.disk import disk_errors
from gpux.errors import HubServerError, InvalidReferenceError, OfflineError, UsageError
from gpux.managers import hub_errors, hub_values
from gpux.managers.base import ModelManager
from gpux.managers.hub_cache import HubCache
from gpux.progress import ByteCounter, ProgressCallback, silent
from gpux.reference import ModelRef, Reference
from gpux.settings import Settings
from gpux.types import ModelFile, ModelInfo, Revision, SourceSnapshot

if TYPE_CHECKING:
    from gpux.managers.hub_client import HubClient
    from gpux.managers.transfer import Transfer

PARALLEL_FILES = 4
CACHE_HINT = "Make room or make it writable, or let HF_HOME name another folder."
POLL = 0.1  # seconds between looks at the cancel token


class HuggingFaceManager(ModelManager):
    """Pulls, searches and describes models of a Hub.

    ``HuggingFaceManager()`` reads the environment as every Hugging Face tool does; ``token=``, ``endpoint=``,
    ``offline=``, ``timeout=`` and the other fields of :class:`~gpux.settings.Settings` override it.
    """

    scheme = "hf"

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        super().__init__(settings, **overrides)
        self._client: HubClient | None = None

    def resolve(self, ref: Reference, *, cancel: CancelToken | None = None) -> ModelInfo:
        """The model at a commit, by one request; from the source cache when offline.

        Raises:
            ModelNotFoundError: there is none, or no right to see it.
            RevisionNotFoundError: it has no such revision.
            OfflineError: offline, and the source cache does not know the model.
        """
        parsed = self._own(ref)
        if self.settings.offline:
            return self._resolve_offline(parsed)
        found = hub_values.model_info(self._hub().model(parsed.id, parsed.revision, cancel), parsed)
        if found.files and any(file.etag is None for file in found.files):
            found = hub_values.with_tree(found, self._hub().tree(found.id, found.commit, cancel))
        return found

    def fetch(
        self,
        info: ModelInfo,
        paths: Iterable[str],
        *,
        progress: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> SourceSnapshot:
        """Bring files of the model into the source cache, each checked against the hash that the Hub promised.

        Files that are there already, from any tool, are hashed once and fetched again if they are damaged.

        Raises:
            EntryNotFoundError: the model has no such file.
            OfflineError: offline, and a file is not in the source cache.
            CorruptFileError, DiskFullError, NotWritableError, CancelledError: as :class:`ModelManager` says.
        """
        files = [self._entry(info, path) for path in paths]
        cache = HubCache(self.settings.hf_cache, info.id)
        counter = ByteCounter("download", files, progress or silent)
        with disk_errors(self.settings.hf_cache, hint=CACHE_HINT):
            self._fetch_all(info, files, cache, counter, cancel or CancelToken())
            if info.revision is not None:
                cache.record_revision(info.revision, info.commit)
        return SourceSnapshot(info, cache.snapshot(info.commit), tuple(file.path for file in files))

    def search_models(
        self, query: str = "", *, task: str | None = None, author: str | None = None, limit: int = 20
    ) -> list[ModelInfo]:
        """Models whose name holds ``query``, the most downloaded first.

        ``task`` is the Hub's own name of one (``sentence-similarity``), ``limit`` at least 1.
        """
        if limit < 1:
            raise UsageError(f"limit={limit}: at least one result must be asked for")
        self._refuse_offline("search")
        found = self._hub().search(
            search=query or None, pipeline_tag=task, author=author, sort="downloads", limit=limit, full=True
        )
        return [hub_values.model_info(item, ModelRef("hf", item.id)) for item in found]

    def list_revisions(self, ref: Reference) -> list[Revision]:
        """Branches, tags, pull requests and the Hub's own conversions, with their commits: one request."""
        parsed = self._own(ref)
        self._refuse_offline("list revisions")
        return hub_values.revisions(self._hub().refs(parsed.id))

    def _own(self, ref: Reference) -> ModelRef:
        """The parsed reference, if it is one of this manager's Hub."""
        parsed = ModelRef.parse(ref)
        if parsed.scheme != self.scheme:
            raise InvalidReferenceError(f"{parsed} is not a model of the Hub", reference=str(parsed))
        if parsed.endpoint not in (None, self.settings.endpoint):
            raise InvalidReferenceError(
                f"{parsed.endpoint} is not the Hub in use, which is {self.settings.endpoint}",
                hint=f"Set HF_ENDPOINT={parsed.endpoint} to use that one.",
            )
        return parsed

    def _hub(self) -> HubClient:
        if self._client is None:
            from gpux.managers.hub_client import HubClient  # imports huggingface_hub

            self._client = HubClient(self.settings.endpoint, self.settings.token, self.settings.timeout)
        return self._client

    def _refuse_offline(self, what: str) -> None:
        if self.settings.offline:
            raise OfflineError(f"offline: cannot {what} without the Hub", hint="Unset HF_HUB_OFFLINE.")

    def _resolve_offline(self, ref: ModelRef) -> ModelInfo:
        cache = HubCache(self.settings.hf_cache, ref.id)
        commit = ref.revision if ref.is_commit else cache.revision(ref.revision or "main")
        files = cache.files(commit) if commit else ()
        if not commit or not files:
            raise OfflineError(
                f"offline, and {ref} is not on this machine",
                hint=f"Unset HF_HUB_OFFLINE and run `gpux pull {ref}` once.",
                model=ref.id,
            )
        return hub_values.cached_info(ref, commit, files, cache.snapshot(commit))

    def _entry(self, info: ModelInfo, path: str) -> ModelFile:
        file = info.file(path)
        if file is None:
            raise hub_errors.entry_not_found(self._asked(info, path))
        if file.etag is None and not self.settings.offline:
            raise HubServerError(f"{self.settings.endpoint} tells no hash for {path} of {info.id}")
        return file

    def _asked(self, info: ModelInfo, path: str) -> hub_errors.Asked:
        return hub_errors.Asked(self.settings.endpoint, info.id, info.commit, path)

    def _fetch_all(
        self, info: ModelInfo, files: list[ModelFile], cache: HubCache, counter: ByteCounter, cancel: CancelToken
    ) -> None:
        """Fetch in a few threads; the first failure, or Ctrl-C, stops the others at their next chunk."""
        from gpux.managers.transfer import Transfer  # imports httpx2

        settings = self.settings
        stop = cancel.child()
        with (
            Transfer(settings.endpoint, settings.token, settings.timeout) as transfer,
            ThreadPoolExecutor(PARALLEL_FILES, thread_name_prefix="gpux-fetch") as pool,
        ):
            jobs = [pool.submit(self._fetch_one, transfer, info, file, cache, counter, stop) for file in files]
            try:
                _await(jobs, cancel)
            finally:
                stop.cancel()
                if not all(job.done() for job in jobs):
                    transfer.abort()
                pool.shutdown(cancel_futures=True)

    def _fetch_one(
        self,
        transfer: Transfer,
        info: ModelInfo,
        file: ModelFile,
        cache: HubCache,
        counter: ByteCounter,
        cancel: CancelToken,
    ) -> None:
        cancel.check()
        if not self._is_cached(info, file, cache):
            if self.settings.offline:
                raise OfflineError(f"offline, and {file.path} of {info.id} is not in the source cache")
            self._download(transfer, info, file, cache, counter, cancel)
        counter.advance(file, file.size or 0)
        cache.link(info.commit, file)

    def _is_cached(self, info: ModelInfo, file: ModelFile, cache: HubCache) -> bool:
        """True when the cache holds the file whole and right; a damaged one is moved out of the way."""
        path = cache.present(info.commit, file)
        if path is None:
            return False
        if file.etag is None or _hash(path, file) == file.etag:
            return True
        path.resolve().unlink()
        return False

    def _download(
        self,
        transfer: Transfer,
        info: ModelInfo,
        file: ModelFile,
        cache: HubCache,
        counter: ByteCounter,
        cancel: CancelToken,
    ) -> None:
        etag = file.etag or ""
        with cache.lock(etag, cancel):
            if cache.present(info.commit, file):
                return  # another process brought it while this one waited
            partial = cache.partial(etag)
            transfer.download(info.id, info.commit, file, partial, lambda done: counter.advance(file, done), cancel)
            partial.replace(cache.blob(etag))


def _hash(path: Path, file: ModelFile) -> str:
    from gpux.managers.transfer import hash_file

    return hash_file(path, file)


def _await(jobs: Sequence[Future[None]], cancel: CancelToken) -> None:
    """Return when all are done; raise the first failure, or that of the token, as soon as there is one."""
    pending: set[Future[None]] = set(jobs)
    while pending:
        done, pending = wait(pending, timeout=POLL, return_when=FIRST_EXCEPTION)
        cancel.check()
        for job in done:
            job.result()
