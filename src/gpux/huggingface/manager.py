"""The manager of models on the Hugging Face Hub."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from gpux.download import hub_errors
from gpux.download.hub_errors import refuse_offline
from gpux.errors import (
    ONLINE_HINT,
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
from gpux.huggingface.search import SearchQuery, Sort
from gpux.inspect.reads import FileReads
from gpux.managers.card_files import cached_page
from gpux.managers.info_cache import InfoCachingManager
from gpux.model.info import ModelFile, ModelInfo, ModelPage, Revision, SourceSnapshot
from gpux.model.reference import ModelRef, Reference
from gpux.source_cache.layout import HubCache
from gpux.source_cache.removal import discard_source
from gpux.system.cancel import CancelToken
from gpux.system.disk import REFUSED, disk_errors
from gpux.system.progress import ByteCounter, ProgressCallback, wait_listener

if TYPE_CHECKING:
    from gpux.huggingface.client import HubClient

log = logging.getLogger(__name__)
PAGE = 50  #: search results per request, at most
CACHE_HINT = "Free space or make it writable, or set HF_HUB_CACHE (by default it is in HF_HOME) to another folder."


class HuggingFaceManager(InfoCachingManager):
    """Pulls, searches and describes models of a Hub.

    ``HuggingFaceManager()`` reads the environment as every Hugging Face tool does; ``token=``, ``endpoint=``,
    ``offline=``, ``timeout=`` and the other keywords override it.
    """

    scheme = "hf"
    _client: HubClient | None = None

    def resolve(self, ref: Reference, *, cancel: CancelToken | None = None) -> ModelInfo:
        """The model at a commit, by one request; offline, from the source cache.

        Raises:
            ModelNotFoundError: the model does not exist, or this user may not see it.
            RevisionNotFoundError: the model has no such revision.
            OfflineError: offline, and the source cache does not have the model.
            UnsafePathError: the name of a file would place it outside the model's folder.
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
        """Download files of the model into the source cache and check each against the Hub's hash.

        Files that the cache has already, from any tool, are hashed too and downloaded again if they are damaged.

        Raises:
            EntryNotFoundError: the model has no such file.
            OfflineError: offline, and a file is not in the source cache.
            CorruptFileError, DiskFullError, CancelledError: as :meth:`ModelManager.fetch`.
            NotWritableError: the source cache cannot be written.
        """
        from gpux.download.fetch import Fetch  # deferred for start-up: imports httpx2

        files = [self._entry(info, path) for path in paths]
        cache = HubCache(self.settings.hf_cache, info.id)
        counter = ByteCounter("download", files, progress or wait_listener())
        with disk_errors(self.settings.hf_cache, hint=CACHE_HINT):
            report = Fetch(self.settings, info, cache, counter, cancel or CancelToken()).run(files)
            if info.revision is not None:
                _record_revision(cache, info.revision, info.commit)
        return SourceSnapshot(info, cache.snapshot(info.commit), tuple(file.path for file in files), report)

    def cached(self, info: ModelInfo, paths: Iterable[str]) -> set[str]:
        """The ``paths`` that the source cache has in full length."""
        cache = HubCache(self.settings.hf_cache, info.id)
        wanted = set(paths)
        return {file.path for file in info.files if file.path in wanted and cache.present(info.commit, file)}

    def discard(self, id: str, commit: str) -> int:
        """Remove the files of this commit from the source cache, except those that other commits link to."""
        return discard_source(id, commit, self.settings.hf_cache)

    def page(self, ref: Reference, *, cancel: CancelToken | None = None) -> ModelPage:
        """The model and its card, by one request; offline, from the source cache."""
        parsed = self._own(ref)
        if self.settings.offline:
            info = self._resolve_offline(parsed)
            return cached_page(info, HubCache(self.settings.hf_cache, info.id).snapshot(info.commit))
        found: list[Any] = []

        def request() -> ModelInfo:
            found.append(self._hub().page(parsed.id, parsed.revision, cancel))
            return self._complete(found[0], parsed, cancel)

        info = self.cache_info(parsed, request)
        return responses.model_page(found[0], info)

    def scans(self, info: ModelInfo, paths: Iterable[str]) -> dict[str, Mapping[str, Any]]:
        """The results of the Hub's security scanners: path -> ``securityFileStatus``. One request.

        Raises:
            OfflineError: offline.
            ManagerError: the Hub refuses; the subclass says why.
        """
        refuse_offline(self.settings, "read security scans")
        return responses.scans(self._hub().scans(info.id, info.commit, list(paths)))

    def open_reads(self, info: ModelInfo, *, network: bool = True) -> FileReads:
        """Byte ranges of files: from the source cache if it has the file, else by ranged requests."""
        from gpux.huggingface.ranged_reads import HubReads  # deferred for start-up: imports httpx2

        return HubReads(self.settings, info, network=network)

    def search_models(
        self,
        query: str = "",
        *,
        task: str | None = None,
        author: str | None = None,
        limit: int = 20,
        library: str | None = None,
        format: str | None = None,
        license: str | None = None,
        gated: bool | None = None,
        min_parameters: int | None = None,
        max_parameters: int | None = None,
        sort: Sort = "downloads",
    ) -> list[ModelInfo]:
        """The models that match all filters, most downloaded first by default.

        A file whose name would place it outside the model's folder is omitted; :meth:`resolve` refuses such a model.

        Args:
            query: part of the model's name; empty for every name.
            task: the Hub's name of a task, for example ``sentence-similarity``.
            author: user or organization.
            limit: number of results, at least 1.
            library: for example ``transformers`` or ``sentence-transformers``.
            format: format of the weights, one of :data:`gpux.inspect.formats.FORMATS`.
            license: the Hub's id of a license, for example ``apache-2.0``.
            gated: True for gated models only, False for open models only.
            min_parameters: lowest number of parameters.
            max_parameters: highest number of parameters.
            sort: order of the results, descending.

        Raises:
            UsageError: a value is invalid.
            OfflineError: offline.
        """
        if limit < 1:
            raise UsageError(f"limit={limit} must be at least 1")
        wanted = SearchQuery(
            query,
            task=task,
            author=author,
            library=library,
            format=format,
            license=license,
            gated=gated,
            min_parameters=min_parameters,
            max_parameters=max_parameters,
            sort=sort,
        )
        return list(islice(self.iter_models(wanted, page=min(limit, PAGE)), limit))

    def iter_models(
        self, query: SearchQuery, *, page: int = PAGE, cancel: CancelToken | None = None
    ) -> Iterator[ModelInfo]:
        """All models that match; each page of ``page`` results is requested when it is needed."""
        refuse_offline(self.settings, "search")
        for item in self._hub().search(query.parameters(page), cancel):
            info = responses.listed_info(item, ModelRef("hf", item.id))
            if query.accepts(info):
                yield info

    def list_revisions(self, ref: Reference) -> list[Revision]:
        """Branches, tags, pull requests and the Hub's conversions, with their commits: one request."""
        parsed = self._own(ref)
        refuse_offline(self.settings, "list revisions")
        return responses.revisions(self._hub().refs(parsed.id))

    def whoami(self) -> Account:
        """The account that the token belongs to: one request.

        Raises:
            AccessError: no token is in use.
            InvalidTokenError: the Hub refuses the token.
            OfflineError: offline.
        """
        if self.settings.token is None:
            raise AccessError("no token is in use", hint="Log in with `gpux auth login`, or set HF_TOKEN.")
        refuse_offline(self.settings, "look up the token's account")
        return account_from(self._hub().whoami())

    def check_file(self, info: ModelInfo, path: str, *, cancel: CancelToken | None = None) -> None:
        """Check that this user may download a file of the model: one request without a body.

        Raises:
            AccessError, ModelNotFoundError, EntryNotFoundError: the Hub refuses.
            UnavailableError: the Hub does not answer, limits requests, or fails.
        """
        refuse_offline(self.settings, "check access")
        self._hub().head(info.id, info.commit, path, cancel)

    def get_space_info(self, ref: ModelRef) -> SpaceInfo:
        """A Space and the models that it uses: one request. ``ref.id`` is ``org/name`` without ``spaces/``.

        Raises:
            ModelNotFoundError: the Space does not exist, or this user may not see it.
            OfflineError: offline.
        """
        parsed = self._own(ref)
        refuse_offline(self.settings, "read a Space")
        return responses.space_info(self._hub().space(parsed.id))

    def _own(self, ref: Reference) -> ModelRef:
        """Parse a reference and check that it belongs to this manager's Hub."""
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
            from gpux.huggingface.client import HubClient  # deferred for start-up: imports huggingface_hub

            self._client = HubClient(
                self.settings.endpoint, self.settings.token, self.settings.timeout, self.settings.ca_bundle
            )
        return self._client

    def _resolve_online(self, ref: ModelRef, cancel: CancelToken | None) -> ModelInfo:
        return self._complete(self._hub().model(ref.id, ref.revision, cancel), ref, cancel)

    def _complete(self, answer: Any, ref: ModelRef, cancel: CancelToken | None) -> ModelInfo:
        try:
            found = responses.model_info(answer, ref)
            if found.files and any(file.etag is None for file in found.files):
                found = responses.with_tree(found, self._hub().tree(found.id, found.commit, cancel))
        except UnsafePathError as exc:
            hint = (
                f"gpux downloads no file of such a model; report it at {self.settings.endpoint}/{ref.id}/discussions."
            )
            message = f"the file name {exc.details['file']!r} of {ref.id} leads out of the model's folder"
            raise UnsafePathError(message, hint=hint, model=ref.id, **exc.details) from exc
        return found

    def _resolve_offline(self, ref: ModelRef) -> ModelInfo:
        id = self._cached_id(ref)
        cache = HubCache(self.settings.hf_cache, id)
        commit = ref.revision if ref.is_commit else cache.revision(ref.revision or "main") or self._last_commit(ref)
        files = cache.files(commit) if commit else ()
        if not commit or not files:
            others = cache.commits()
            hint = f"Pull it once with `gpux pull {ref}`. {ONLINE_HINT}"
            if others:
                hint = f"It has another commit, which `gpux pull {id}@{others[-1]} --offline` uses. {hint}"
            raise OfflineError(f"offline, and the source cache does not have {ref}", hint=hint, model=ref.id)
        return responses.cached_info(ref, id, commit, files, cache.snapshot(commit))

    def _last_commit(self, ref: ModelRef) -> str | None:
        """The commit of the Hub's last answer, for a cache whose records cannot be written."""
        known = self.cached_model_info(ref)
        return known.info.commit if known else None

    def _cached_id(self, ref: ModelRef) -> str:
        """The canonical id from the cached info, for a reference with a short or former id."""
        if HubCache(self.settings.hf_cache, ref.id).repository.exists():
            return ref.id
        known = self.cached_model_info(ref) or self.cached_model_info(replace(ref, revision=None))
        return known.info.id if known else ref.id

    def _entry(self, info: ModelInfo, path: str) -> ModelFile:
        file = info.file(path)
        if file is None:
            raise hub_errors.entry_not_found(self._context(info, path))
        if file.etag is None and not self.settings.offline:
            raise HubServerError(f"{self.settings.endpoint} sends no hash of {path} of {info.id}")
        return file

    def _context(self, info: ModelInfo, path: str) -> hub_errors.RequestContext:
        return hub_errors.RequestContext(self.settings.endpoint, info.id, info.commit, path)


def _record_revision(cache: HubCache, revision: str, commit: str) -> None:
    """Record the commit of a branch or tag, unless its folder is read-only: only offline use needs the record."""
    try:
        cache.record_revision(revision, commit)
    except OSError as exc:
        if exc.errno not in REFUSED:
            raise
        log.info("the commit of %s is not recorded in %s: %s", revision, cache.repository, exc.strerror)
