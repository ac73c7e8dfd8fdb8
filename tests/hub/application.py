"""The routing of requests to endpoints: the server without its sockets."""

from __future__ import annotations

import threading
import time
import uuid
from urllib.parse import quote, unquote

from tests.hub import api
from tests.hub.access import Gatekeeper
from tests.hub.files import Cdn, find_blob, redirect_to_cache, send_regular
from tests.hub.messages import HubError, Reply, Request, json_reply, redirect
from tests.hub.repository import Repository, Revision
from tests.hub.settings import Options, User
from tests.hub.spaces import space_endpoint
from tests.hub.store import RepoStore

SUBRESOURCES = frozenset(
    {
        "auth-check",
        "commits",
        "paths-info",
        "refs",
        "revision",
        "safetensors-metadata",
        "tree",
        "xet-read-token",
    }
)
RATE_WINDOW = 300
RATE_QUOTAS = {"api": 500, "resolvers": 3000, "pages": 100}


class Application:
    """Answers the requests of both listeners. `base_url` is the origin's, for links."""

    def __init__(self, store: RepoStore, spaces: RepoStore, gatekeeper: Gatekeeper, options: Options) -> None:
        self.store = store
        self.spaces = spaces
        self.gatekeeper = gatekeeper
        self.options = options
        self.cdn = Cdn()
        self.base_url = ""
        self._rates = RateWindow()

    def answer(self, request: Request) -> Reply:
        """The reply to a request, which may be a refusal, with the headers that every reply has."""
        try:
            if request.listener == "cdn":
                return self.cdn.answer(request, once=self.options.cdn_once)
            reply = self._answer_origin(request)
        except HubError as error:
            reply = error.reply()
        request_id = f"Root=1-{uuid.uuid4()}"
        return reply.with_headers({"X-Request-Id": request_id, **self._rates.count(_bucket(request))})

    def _answer_origin(self, request: Request) -> Reply:
        if request.method not in {"GET", "HEAD"} and "paths-info" not in request.segments:
            raise HubError(405, "Method Not Allowed")
        user = self.gatekeeper.authenticate(request.headers)
        match request.segments:
            case ("api", "whoami-v2"):
                return api.whoami(user)
            case ("api", "agent-harnesses"):
                return json_reply({"standardEnvVars": [], "harnesses": {}})
            case ("api", "models-tags-by-type"):
                return api.tags_by_type(self, user)
            case ("api", "models"):
                return api.list_models(self, user, request)
            case ("api", "models", *rest):
                return self._answer_model(user, tuple(rest), request)
            case ("api", "spaces", owner, name, *rest):
                return self._answer_space(user, f"{unquote(owner)}/{unquote(name)}", tuple(rest), request)
            case ("api", "resolve-cache", "models", *rest):
                return self._answer_file(user, tuple(rest), request, cached=True)
            case (_, "resolve", *_) | (_, _, "resolve", *_):
                return self._answer_file(user, request.segments, request, cached=False)
        # Datasets and files of Spaces are answered as missing repositories.
        raise self.gatekeeper.not_found(user)

    def _answer_model(self, user: User | None, segments: tuple[str, ...], request: Request) -> Reply:
        legacy = len(segments) == 1 or (segments[1] in SUBRESOURCES and self._exists(unquote(segments[0])))
        length = 1 if legacy else 2
        repo_id, rest = "/".join(map(unquote, segments[:length])), segments[length:]
        repository = self._find(user, repo_id)
        if repository.id != repo_id:
            return _moved(request, "/".join(("", "api", "models", quote(repository.id), *rest)))
        return api.model_endpoint(self, user, repository, rest, request)

    def _answer_space(self, user: User | None, repo_id: str, rest: tuple[str, ...], request: Request) -> Reply:
        found = self.spaces.open(repo_id) or self.spaces.successor(repo_id)
        repository = self.gatekeeper.check_visible(user, found)
        if repository.id != repo_id:
            return _moved(request, "/".join(("", "api", "spaces", quote(repository.id), *rest)))
        return space_endpoint(repository, rest, request)

    def _answer_file(self, user: User | None, segments: tuple[str, ...], request: Request, *, cached: bool) -> Reply:
        """`{id}/resolve/{rev}/{path}`, or `{id}/{sha}/{path}` of the cached form."""
        length = _id_length(segments, cached)
        rest = segments[length:] if cached else segments[length + 1 :]
        if len(rest) < 2:
            raise HubError(404, "Entry not found", "EntryNotFound")
        repo_id = "/".join(map(unquote, segments[:length]))
        repository = self._find(user, repo_id)
        if repository.id != repo_id:
            before = ("api", "resolve-cache", "models") if cached else ()
            between = () if cached else ("resolve",)
            return _moved(request, "/".join(("", *before, quote(repository.id), *between, *rest)))
        self.gatekeeper.check_download(user, repository)
        revision = repository.resolve(unquote(rest[0]))
        return self._send(request, repository, revision, "/".join(map(unquote, rest[1:])), cached=cached)

    def _send(self, request: Request, repository: Repository, revision: Revision, path: str, *, cached: bool) -> Reply:
        blob = find_blob(revision, path)
        if blob.sha256:
            return self.cdn.redirect(repository, revision, blob, self.options.cdn_ttl)
        if self.options.resolve_cache and not cached:
            return redirect_to_cache(request, repository, revision, blob)
        return send_regular(request, revision, blob)

    def _exists(self, repo_id: str) -> bool:
        return self.store.open(repo_id) is not None or self.store.successor(repo_id) is not None

    def _find(self, user: User | None, repo_id: str) -> Repository:
        """The repository with this id or former id, if it is visible to the caller."""
        repository = self.store.open(repo_id) or self.store.successor(repo_id)
        return self.gatekeeper.check_visible(user, repository)


class RateWindow:
    """Counts requests in fixed windows, for the headers. No request is refused: a 429 is a Fault."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, int], int] = {}

    def count(self, bucket: str) -> dict[str, str]:
        """Counts one request and returns the headers. The remainder is at least 1: clients wait when it is 0."""
        window, elapsed = divmod(int(time.time()), RATE_WINDOW)
        with self._lock:
            used = self._counts[bucket, window] = self._counts.get((bucket, window), 0) + 1
        quota = RATE_QUOTAS[bucket]
        return {
            "RateLimit": f'"{bucket}";r={max(quota - used, 1)};t={RATE_WINDOW - elapsed}',
            "RateLimit-Policy": f'"fixed window";"{bucket}";q={quota};w={RATE_WINDOW}',
        }


def _bucket(request: Request) -> str:
    if "resolve" in request.segments or request.path.startswith("/api/resolve-cache/"):
        return "resolvers"
    return "api" if request.path.startswith("/api/") else "pages"


def _id_length(segments: tuple[str, ...], cached: bool) -> int:
    """How many segments the id has: those before `resolve`, or before the hash in the cached form."""
    separator = segments[2] if len(segments) > 2 else ""
    return 2 if (len(separator) == 40 if cached else separator == "resolve") else 1


def _moved(request: Request, path: str) -> Reply:
    """The redirect to a repository's present id.

    Its Location is relative: huggingface_hub 0.x follows no other, and the token is sent to this server only.
    """
    query = request.target.partition("?")[2]
    return redirect(307, f"{path}?{query}" if query else path)
