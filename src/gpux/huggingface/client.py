"""Metadata of the Hub: the only importer of huggingface_hub, whose exceptions become gpux errors here.

Supports huggingface_hub 0.34+, 1.x and 2.x. Most of its metadata calls accept no timeout in any of them, so each call
runs in a thread of its own with a deadline; that also makes every call cancellable.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo as HubModelInfo
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff  # type: ignore[attr-defined]

from gpux import errors
from gpux.download import hub_errors
from gpux.download.hub_errors import RequestContext, check_token
from gpux.system.cancel import CancelToken

T = TypeVar("T")
# It logs unknown card fields to stderr; gpux.inspect.card validates cards.
logging.getLogger("huggingface_hub.repocard_data").setLevel(logging.ERROR)
# It logs each retry to stderr; the last failure becomes a gpux error.
logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
#: Retries of a page of search results, after 1 s and 2 s, so that they end before the deadline of a call.
_PAGE_RETRIES = 2


def _transport_error() -> type[Exception]:
    """The base of the transport errors of the HTTP library that this version of huggingface_hub uses.

    ``requests.RequestException`` (0.x), ``httpx.HTTPError`` (1.x) or ``httpx2.HTTPError`` (2.x): the last class of
    that library among the bases of ``HfHubHTTPError``.
    """
    foreign = [c for c in HfHubHTTPError.__mro__ if c.__module__.split(".")[0] in ("requests", "httpx", "httpx2")]
    return foreign[-1]


TransportError = _transport_error()

#: Exception of huggingface_hub -> constructor of the gpux error; subclasses (``GatedRepoError``) before their bases.
EXCEPTIONS: tuple[tuple[type[Exception], Callable[[RequestContext], errors.GpuxError]], ...] = (
    (GatedRepoError, hub_errors.gated),
    (DisabledRepoError, hub_errors.disabled),
    (RevisionNotFoundError, hub_errors.revision_not_found),
    (RepositoryNotFoundError, hub_errors.model_not_found),
)


def translate(exc: Exception, context: RequestContext) -> errors.GpuxError:
    """The gpux error for an exception of huggingface_hub or of its HTTP library."""
    if isinstance(exc, LocalEntryNotFoundError) and isinstance(exc.__cause__, Exception):
        return translate(exc.__cause__, context)  # huggingface_hub wraps the cause
    for kind, build in EXCEPTIONS:
        if isinstance(exc, kind):
            return build(context)
    if isinstance(exc, OfflineModeIsEnabled):
        what = context.model or "this request"
        return errors.OfflineError(f"offline, and {what} needs the Hub", hint=errors.ONLINE_HINT)
    if isinstance(exc, EntryNotFoundError):
        return hub_errors.entry_not_found(context)
    if isinstance(exc, HFValidationError):
        return errors.InvalidReferenceError(f"{context.model!r} is not a valid model id: {exc}")
    response = getattr(exc, "response", None)
    if isinstance(exc, TransportError) and response is not None:
        return hub_errors.from_response(response.status_code, response.headers, context)
    if isinstance(exc, (TransportError, OSError)) and not isinstance(exc, ValueError):
        return hub_errors.unreachable(context, exc)
    return errors.HubServerError(
        f"the Hub at {context.endpoint} sent an invalid description of {context.model or 'models'}: {exc}",
        hint="Is HF_ENDPOINT the address of a Hub?",
    )


class HubClient:
    """Metadata calls, each with a deadline; they raise gpux errors only."""

    def __init__(self, endpoint: str, token: str | None, timeout: float) -> None:
        if token is not None:
            check_token(token)  # the HTTP libraries quote an invalid header in their error, token included
        self._endpoint = endpoint
        self._token = token
        self._with_token = token is not None
        self._timeout = timeout
        self._api = HfApi(endpoint=endpoint, token=token or False, library_name="gpux")

    def model(self, model: str, revision: str | None, cancel: CancelToken | None = None) -> Any:
        """``huggingface_hub.ModelInfo`` with file sizes and hashes: one request."""
        return self._call(
            lambda: self._api.model_info(model, revision=revision, files_metadata=True, timeout=self._timeout),
            RequestContext(self._endpoint, model, revision, with_token=self._with_token),
            cancel,
        )

    def page(self, model: str, revision: str | None, cancel: CancelToken | None = None) -> Any:
        """``huggingface_hub.ModelInfo`` with the status of the security scan as well: one request."""
        return self._call(
            lambda: self._api.model_info(
                model, revision=revision, files_metadata=True, securityStatus=True, timeout=self._timeout
            ),
            RequestContext(self._endpoint, model, revision, with_token=self._with_token),
            cancel,
        )

    def scans(self, model: str, commit: str, paths: list[str], cancel: CancelToken | None = None) -> list[Any]:
        """``huggingface_hub.RepoFile`` values with the result of each file's security scan: one request."""
        return self._call(
            lambda: self._api.get_paths_info(model, paths, expand=True, revision=commit),
            RequestContext(self._endpoint, model, commit, with_token=self._with_token),
            cancel,
        )

    def tree(self, model: str, commit: str, cancel: CancelToken | None = None) -> list[Any]:
        """``huggingface_hub.RepoFile`` values of every file, for Hubs whose model info has no hashes."""
        return self._call(
            lambda: [f for f in self._api.list_repo_tree(model, recursive=True, revision=commit) if hasattr(f, "size")],
            RequestContext(self._endpoint, model, commit, with_token=self._with_token),
            cancel,
        )

    def refs(self, model: str, cancel: CancelToken | None = None) -> Any:
        """``huggingface_hub.GitRefs``, pull requests included."""
        return self._call(
            lambda: self._api.list_repo_refs(model, include_pull_requests=True),
            RequestContext(self._endpoint, model, with_token=self._with_token),
            cancel,
        )

    def head(self, model: str, commit: str, path: str, cancel: CancelToken | None = None) -> None:
        """Check that a file may be downloaded: one HEAD request, whose redirect to the CDN is not followed."""
        url = hf_hub_url(model, path, revision=commit, endpoint=self._endpoint)
        self._call(
            lambda: self._api.get_hf_file_metadata(url=url, timeout=self._timeout),
            RequestContext(self._endpoint, model, commit, path, self._with_token),
            cancel,
        )

    def space(self, space: str, cancel: CancelToken | None = None) -> Any:
        """``huggingface_hub.SpaceInfo``."""
        return self._call(
            lambda: self._api.space_info(space, timeout=self._timeout),
            RequestContext(self._endpoint, f"spaces/{space}", with_token=self._with_token, kind="Space"),
            cancel,
        )

    def whoami(self, cancel: CancelToken | None = None) -> dict[str, Any]:
        """The account of the token, as the JSON of ``whoami-v2``; without a token, huggingface_hub uses its own."""
        return self._call(self._api.whoami, RequestContext(self._endpoint, with_token=self._with_token), cancel)

    def search(self, query: dict[str, Any], cancel: CancelToken | None = None) -> Iterator[Any]:
        """``huggingface_hub.ModelInfo`` values; each page of ``GET /api/models`` is requested when it is needed.

        ``query["limit"]`` is the size of a page, which the Hub may reduce.
        """
        context = RequestContext(self._endpoint, with_token=self._with_token)
        headers = build_hf_headers(token=self._token or False, library_name="gpux")
        found = _paged(f"{self._endpoint}/api/models", query, headers)
        size = query["limit"]
        while page := self._call(lambda: list(islice(found, size)), context, cancel):
            yield from (self._parsed(item, context) for item in page)

    @staticmethod
    def _parsed(item: Any, context: RequestContext) -> Any:
        try:
            return HubModelInfo(**item)  # type: ignore[no-untyped-call]
        except (TypeError, KeyError, ValueError, AttributeError) as exc:  # not a description of a model
            raise translate(exc, context) from exc

    def _call(self, call: Callable[[], T], context: RequestContext, cancel: CancelToken | None) -> T:
        """Run ``call`` in a thread; a call that exceeds its deadline is abandoned, and ends with its socket."""
        outcome: list[T] = []
        failure: list[Exception] = []

        def run() -> None:
            try:
                outcome.append(call())
            except Exception as exc:  # noqa: BLE001 - passed to the caller's thread, which translates it by type
                failure.append(exc)

        thread = threading.Thread(target=run, name="gpux-hub", daemon=True)
        thread.start()
        _join(thread, 2 * self._timeout, cancel)
        if failure:
            raise translate(failure[0], context) from failure[0]
        if thread.is_alive():
            raise hub_errors.unreachable(context, f"no response for {2 * self._timeout:g} s")
        return outcome[0]


def _paged(url: str, query: Mapping[str, Any], headers: Mapping[str, str]) -> Iterator[Any]:
    """The items of a JSON list that the Hub serves in pages; the header ``Link`` of a page names the next one.

    As ``huggingface_hub.utils.paginate``, whose retries take longer than a call's deadline. A rate limit is not
    retried: the Hub states how long it lasts.
    """
    following: str | None = url
    params: Mapping[str, Any] | None = query
    while following is not None:
        response = http_backoff(
            "GET",
            following,
            params=params,
            headers=headers,
            max_retries=_PAGE_RETRIES,
            retry_on_status_codes=(500, 502, 503, 504),
        )
        hf_raise_for_status(response)
        yield from response.json()
        following, params = response.links.get("next", {}).get("url"), None  # its address contains the query


def _join(thread: threading.Thread, seconds: float, cancel: CancelToken | None) -> None:
    """Wait for the thread; with a cancel token, in short steps that check it."""
    if cancel is None:
        thread.join(seconds)
        return
    waited = 0.0
    while thread.is_alive() and waited < seconds:
        cancel.check()
        thread.join(0.05)
        waited += 0.05
