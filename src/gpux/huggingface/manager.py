"""Models of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from gpux.download import hub_errors
from gpux.download.hub_errors import refuse_offline
from gpux.errors import (
    AccessError,
    HubServerError,
    InvalidReferenceError,
    OfflineError,
    UnsafePathError,
    UsageError,
)
from gpux.huggingface import responses
from gpux.huggingface.auth import Account, account_from
from gpux.huggingface.responses import SpaceInfo
from gpux.huggingface.search import SearchQuery
from gpux.inspect.reads import FileReads
from gpux.managers.card_files import cached_page
from gpux.managers.info_cache import InfoCachingManager
from gpux.model.info import ModelFile, ModelInfo, Revision, SourceSnapshot
from gpux.model.page import ModelPage
from gpux.model.reference import ModelRef, Reference
from gpux.source_cache.layout import HubCache
from gpux.source_cache.removal import discard_source
from gpux.system.cancel import CancelToken
from gpux.system.disk import disk_errors
from gpux.system.progress import ByteCounter, ProgressCallback, silent
from gpux.system.settings import Settings

if TYPE_CHECKING:
    from gpux.huggingface.client import HubClient

PAGE = 50  #: results of a search that one request brings, at most
CACHE_HINT = "Make room or make it writable, or let HF_HOME name another folder."


class HuggingFaceManager(InfoCachingManager):
    """Pulls, searches and describes models of a Hub.

    ``HuggingFaceManager()`` reads the environment as every Hugging Face tool does; ``token=``, ``endpoint=``,
    ``offline=``, ``timeout=`` and the other fields of :class:`~gpux.system.settings.Settings` override it.
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
            UnsafePathError: the name of one of its files leads out of its folder.
        """
        parsed = self._own(ref)
        if self.settings.offline:
            return self._resolve_offline(parsed)
        return self.cache_info(parsed, lambda: self._resolve_online(parsed, cancel))

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
        from gpux.download.fetch import Fetch  # imports httpx2

        files = [self._entry(info, path) for path in paths]
        cache = HubCache(self.settings.hf_cache, info.id)
        counter = ByteCounter("download", files, progress or silent)
        with disk_errors(self.settings.hf_cache, hint=CACHE_HINT):
            report = Fetch(self.settings, info, cache, counter, cancel or CancelToken()).run(files)
            if info.revision is not None:
                cache.record_revision(info.revision, info.commit)
        return SourceSnapshot(info, cache.snapshot(info.commit), tuple(file.path for file in files), report)

    def cached(self, info: ModelInfo, paths: Iterable[str]) -> set[str]:
        """Which of ``paths`` the source cache has in full length."""
        cache = HubCache(self.settings.hf_cache, info.id)
        wanted = set(paths)
        return {file.path for file in info.files if file.path in wanted and cache.present(info.commit, file)}

    def discard(self, id: str, commit: str) -> int:
        """Remove the files of this commit from the source cache, but for what other commits link to."""
        return discard_source(id, commit, self.settings.hf_cache)

    def page(self, ref: Reference, *, cancel: CancelToken | None = None) -> ModelPage:
        """The model and its card, by one request; when offline, what the source cache has of both."""
        parsed = self._own(ref)
        if self.settings.offline:
            info = self._resolve_offline(parsed)
            return cached_page(info, HubCache(self.settings.hf_cache, info.id).snapshot(info.commit))
        found: list[Any] = []

        def ask() -> ModelInfo:
            found.append(self._hub().page(parsed.id, parsed.revision, cancel))
            return self._described(found[0], parsed, cancel)

        return responses.model_page(found, self.cache_info(parsed, ask))

    def scans(self, info: ModelInfo, paths: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """What the Hub's scanners found in files: path -> ``securityFileStatus``. One request.

        Raises:
            OfflineError: offline.
            ManagerError: the Hub refuses; the subclass says why.
        """
        refuse_offline(self.settings, "ask for scans")
        return responses.scans(self._hub().scans(info.id, info.commit, list(paths)))

    def open_reads(self, info: ModelInfo, *, ask: bool = True) -> FileReads:
        """Parts of files: from the source cache where it has the file, else by ranged requests."""
        from gpux.huggingface.ranged_reads import HubReads  # imports httpx2

        return HubReads(self.settings, info, ask=ask)

    def search_models(
        self,
        query: str = "",
        *,
        task: str | None = None,
        author: str | None = None,
        limit: int = 20,
        **filters: Any,
    ) -> list[ModelInfo]:
        """Models whose name holds ``query``, the most downloaded first.

        ``task`` is the Hub's own name of one (``sentence-similarity``), ``limit`` at least 1, ``filters`` are the other
        fields of :class:`~gpux.huggingface.search.SearchQuery`. Files whose names lead out of the model's folder are
        left out; :meth:`resolve` refuses such a model.

        Raises:
            UsageError: a filter that is none, or that cannot be meant.
            OfflineError: offline.
        """
        if limit < 1:
            raise UsageError(f"limit={limit}: at least one result must be asked for")
        unknown = filters.keys() - SearchQuery.__dataclass_fields__.keys()
        if unknown or "text" in filters:
            raise UsageError(f"no such filter: {', '.join(sorted(unknown)) or 'text'}")
        wanted = SearchQuery(query, task=task, author=author, **filters)
        return list(islice(self.iter_models(wanted, page=min(limit, PAGE)), limit))

    def iter_models(
        self, query: SearchQuery, *, page: int = PAGE, cancel: CancelToken | None = None
    ) -> Iterator[ModelInfo]:
        """The same as they come, without an end: a page of results is asked for when it is needed."""
        refuse_offline(self.settings, "search")
        for item in self._hub().search(query.parameters(page), cancel):
            info = responses.listed_info(item, ModelRef("hf", item.id))
            if query.accepts(info):
                yield info

    def list_revisions(self, ref: Reference) -> list[Revision]:
        """Branches, tags, pull requests and the Hub's own conversions, with their commits: one request."""
        parsed = self._own(ref)
        refuse_offline(self.settings, "list revisions")
        return responses.revisions(self._hub().refs(parsed.id))

    def whoami(self) -> Account:
        """The account that the token belongs to: one request.

        Raises:
            AccessError: there is no token.
            InvalidTokenError: the Hub refuses it.
            OfflineError: offline.
        """
        if self.settings.token is None:
            raise AccessError("no token is in use", hint="Log in with `gpux auth login`, or set HF_TOKEN.")
        refuse_offline(self.settings, "ask whose token this is")
        return account_from(self._hub().whoami())

    def check_file(self, info: ModelInfo, path: str, *, cancel: CancelToken | None = None) -> None:
        """Ask whether this user may download a file of the model: one request, no body.

        Raises:
            AccessError, ModelNotFoundError, EntryNotFoundError, UnavailableError: why not.
        """
        refuse_offline(self.settings, "check access")
        self._hub().head(info.id, info.commit, path, cancel)

    def get_space_info(self, ref: ModelRef) -> SpaceInfo:
        """A Space and the models that it uses: one request. ``ref.id`` is its name, without ``spaces/``.

        Raises:
            ModelNotFoundError: there is no such Space, or no right to see it.
            OfflineError: offline.
        """
        parsed = self._own(ref)
        refuse_offline(self.settings, "look at a Space")
        return responses.space_info(self._hub().space(parsed.id))

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
            from gpux.huggingface.client import HubClient  # imports huggingface_hub

            self._client = HubClient(self.settings.endpoint, self.settings.token, self.settings.timeout)
        return self._client

    def _resolve_online(self, ref: ModelRef, cancel: CancelToken | None) -> ModelInfo:
        return self._described(self._hub().model(ref.id, ref.revision, cancel), ref, cancel)

    def _described(self, answer: Any, ref: ModelRef, cancel: CancelToken | None) -> ModelInfo:
        try:
            found = responses.model_info(answer, ref)
            if found.files and any(file.etag is None for file in found.files):
                found = responses.with_tree(found, self._hub().tree(found.id, found.commit, cancel))
        except UnsafePathError as exc:
            hint = f"gpux takes no file of such a model: tell its owner at {self.settings.endpoint}/{ref.id}."
            message = f"the file name {exc.details['file']!r} of {ref.id} could leave its folder"
            raise UnsafePathError(message, hint=hint, model=ref.id, **exc.details) from exc
        return found

    def _resolve_offline(self, ref: ModelRef) -> ModelInfo:
        id = self._known_id(ref)
        cache = HubCache(self.settings.hf_cache, id)
        commit = ref.revision if ref.is_commit else cache.revision(ref.revision or "main")
        files = cache.files(commit) if commit else ()
        if not commit or not files:
            raise OfflineError(
                f"offline, and the source cache does not have {ref}",
                hint=f"Pull it once with `gpux pull {ref}`, without --offline and HF_HUB_OFFLINE.",
                model=ref.id,
            )
        return responses.cached_info(ref, id, commit, files, cache.snapshot(commit))

    def _known_id(self, ref: ModelRef) -> str:
        """What the Hub called the model last, which may have been asked for by a short or former name."""
        if HubCache(self.settings.hf_cache, ref.id).repository.exists():
            return ref.id
        known = self.cached_model_info(ref) or self.cached_model_info(replace(ref, revision=None))
        return known.info.id if known else ref.id

    def _entry(self, info: ModelInfo, path: str) -> ModelFile:
        file = info.file(path)
        if file is None:
            raise hub_errors.entry_not_found(self._context(info, path))
        if file.etag is None and not self.settings.offline:
            raise HubServerError(f"{self.settings.endpoint} tells no hash for {path} of {info.id}")
        return file

    def _context(self, info: ModelInfo, path: str) -> hub_errors.RequestContext:
        return hub_errors.RequestContext(self.settings.endpoint, info.id, info.commit, path)
