"""Metadata of the Hub: the only importer of huggingface_hub, whose classes read the Hub's JSON.

Supports huggingface_hub 0.34+, 1.x and 2.x. The requests are gpux's own (:mod:`gpux.download.hub_api`), so that they
follow one retry policy and one set of proxies and certificates, whatever the release.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gpux.download import hub_errors
from gpux.download.hub_api import HubApi
from gpux.download.hub_errors import RequestContext
from gpux.errors import InvalidReferenceError
from gpux.system.cancel import CancelToken
from gpux.system.settings import clean_environment

with clean_environment(
    "huggingface_hub", "HF_", "HUGGINGFACE_"
):  # its import fails where HF_ENDPOINT ends with white space
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.hf_api import GitRefInfo, GitRefs, RepoFile, SpaceInfo
    from huggingface_hub.hf_api import ModelInfo as HubModelInfo
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

# It logs unknown card fields to stderr; gpux.inspect.card validates cards.
logging.getLogger("huggingface_hub.repocard_data").setLevel(logging.ERROR)
#: What a class of huggingface_hub raises for JSON that is not what the Hub sends.
_UNREADABLE = (TypeError, KeyError, ValueError, AttributeError)


class HubClient:
    """Metadata calls; they raise gpux errors only."""

    def __init__(self, endpoint: str, token: str | None, timeout: float, ca_bundle: Path | None = None) -> None:
        self._endpoint = endpoint
        self._with_token = token is not None
        self._api = HubApi(endpoint, token, timeout, ca_bundle)

    def model(self, model: str, revision: str | None, cancel: CancelToken | None = None) -> Any:
        """``huggingface_hub.ModelInfo`` with file sizes and hashes: one request."""
        return self._model(model, revision, cancel, {"blobs": True})

    def page(self, model: str, revision: str | None, cancel: CancelToken | None = None) -> Any:
        """``huggingface_hub.ModelInfo`` with the status of the security scan as well: one request."""
        return self._model(model, revision, cancel, {"securityStatus": True, "blobs": True})

    def scans(self, model: str, commit: str, paths: list[str], cancel: CancelToken | None = None) -> list[Any]:
        """``huggingface_hub.RepoFile`` values with the result of each file's security scan: one request."""
        context = self._context(model, commit)
        found = self._api.post(
            f"{_model_path(model)}/paths-info/{quote(commit, safe='')}",
            context,
            cancel,
            {"paths": paths, "expand": True},
        )
        return _files(found, context)

    def tree(self, model: str, commit: str, cancel: CancelToken | None = None) -> list[Any]:
        """``huggingface_hub.RepoFile`` values of every file, for Hubs whose model info has no hashes."""
        context = self._context(model, commit)
        path = f"{_model_path(model)}/tree/{quote(commit, safe='')}"
        pages = self._api.pages(path, context, cancel, {"recursive": True, "expand": False})
        return [file for page in pages for file in _files(page, context)]

    def refs(self, model: str, cancel: CancelToken | None = None) -> Any:
        """``huggingface_hub.GitRefs``, pull requests included."""
        context = self._context(model)
        found = self._api.get(f"{_model_path(model)}/refs", context, cancel, params={"include_prs": 1})
        return _read(_git_refs, {"found": found}, context)

    def head(self, model: str, commit: str, path: str, cancel: CancelToken | None = None) -> None:
        """Check that a file may be downloaded: one HEAD request, whose redirect to the CDN is not followed."""
        context = RequestContext(self._endpoint, model, commit, path, self._with_token)
        self._api.head(f"/{quote(model)}/resolve/{quote(commit, safe='')}/{quote(path)}", context, cancel)

    def space(self, space: str, cancel: CancelToken | None = None) -> Any:
        """``huggingface_hub.SpaceInfo``."""
        context = RequestContext(self._endpoint, f"spaces/{space}", with_token=self._with_token, kind="Space")
        found = self._api.get(f"/api/spaces/{quote(space)}", context, cancel)
        return _read(SpaceInfo, found, context)

    def whoami(self, cancel: CancelToken | None = None) -> dict[str, Any]:
        """The account of the token, as the JSON of ``whoami-v2``."""
        found: dict[str, Any] = self._api.get("/api/whoami-v2", self._context(), cancel)
        return found

    def search(self, query: dict[str, Any], cancel: CancelToken | None = None) -> Iterator[Any]:
        """``huggingface_hub.ModelInfo`` values; each page of ``GET /api/models`` is requested when it is needed.

        ``query["limit"]`` is the size of a page, which the Hub may reduce.
        """
        context = self._context()
        for page in self._api.pages("/api/models", context, cancel, query):
            yield from (_read(HubModelInfo, item, context) for item in page)

    def _model(self, model: str, revision: str | None, cancel: CancelToken | None, params: dict[str, Any]) -> Any:
        context = self._context(model, revision)
        path = _model_path(model)
        if revision is not None:
            path += f"/revision/{quote(revision, safe='')}"
        found = self._api.get(path, context, cancel, params=params)
        return _read(HubModelInfo, found, context)

    def _context(self, model: str = "", revision: str | None = None) -> RequestContext:
        return RequestContext(self._endpoint, model, revision, with_token=self._with_token)


def _model_path(model: str) -> str:
    """The path of a model in the API.

    Raises:
        InvalidReferenceError: the Hub allows no such id.
    """
    try:
        validate_repo_id(model)
    except HFValidationError as exc:
        raise InvalidReferenceError(f"{model!r} is not a valid model id: {exc}") from exc
    return f"/api/models/{model}"


def _git_refs(found: Any) -> GitRefs:
    """As ``HfApi.list_repo_refs`` reads them."""
    kinds = {
        name: [
            GitRefInfo(name=item["name"], ref=item["ref"], target_commit=item["targetCommit"]) for item in found[name]
        ]
        for name in ("branches", "converts", "tags", "pullRequests")
    }
    return GitRefs(kinds["branches"], kinds["converts"], kinds["tags"], kinds["pullRequests"])


def _files(entries: Any, context: RequestContext) -> list[Any]:
    return [_read(RepoFile, entry, context) for entry in entries if _read(dict, entry, context).get("type") == "file"]


def _read(build: Any, found: Any, context: RequestContext) -> Any:
    """``build`` called with the fields of a JSON object; ``build`` is a class of huggingface_hub, without types.

    Raises:
        HubServerError: the JSON is not what the Hub sends.
    """
    try:
        return build(**found)
    except _UNREADABLE as exc:
        raise hub_errors.invalid_description(context, exc) from exc
