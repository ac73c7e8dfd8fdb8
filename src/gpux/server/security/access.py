"""Access to endpoints by key and scope."""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request

from gpux.errors import ForbiddenError, TooManyAttemptsError, UnauthorizedError
from gpux.server.security.hosts import own_origin, parse_authority, parse_origin
from gpux.server.security.keys import PREFIX, SCOPES, Key, KeyFile
from gpux.server.security.sessions import Session, Sessions, cookie_name
from gpux.server.settings import ServerSettings

#: Parameters of a query in which clients of other servers send keys.
_IN_QUERY = frozenset({"api_key", "api-key", "apikey", "x-api-key", "access_token", "auth_token", "key", "token"})
_HINT = "Send `Authorization: Bearer KEY` with a key of `gpux keys create`."
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Attempts:
    """Counts wrong keys by the address that sends them.

    A key cannot be found by trying; the limit keeps a client with a wrong one from filling logs. A right key is
    accepted at any time, so that clients behind one proxy do not lock each other out.
    """

    allowed = 20  #: wrong keys a minute
    window = 60.0
    addresses = 1024  #: that are remembered

    def __init__(self) -> None:
        self._counts: dict[str, tuple[float, int]] = {}  #: address -> (start of its window, wrong keys)

    def add(self, address: str) -> float | None:
        """Count a wrong key; the seconds to wait, if there were too many."""
        now = time.monotonic()
        start, count = self._counts.pop(address, (now, 0))
        if now - start >= self.window:
            start, count = now, 0
        while len(self._counts) >= self.addresses:
            del self._counts[next(iter(self._counts))]
        self._counts[address] = (start, count + 1)
        return start + self.window - now if count >= self.allowed else None


class Access:
    """Checks each request where it is routed.

    Raises:
        GpuxError: the file of keys cannot be used.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._file = None if settings.api_keys is None else KeyFile(settings.api_keys)
        self._attempts = Attempts()
        self.sessions = Sessions()

    @property
    def needs_key(self) -> bool:
        """Whether requests need a key."""
        return self._file is not None

    def check(self, request: Request, scope: str) -> None:
        """Refuse a request that may not use an endpoint of this scope.

        Raises:
            UnauthorizedError: there is no key, or an unknown one.
            TooManyAttemptsError: there were many unknown keys from the same address.
            ForbiddenError: the key does not have the scope.
        """
        if scope == "open" or self._file is None:
            return
        if scope not in SCOPES:
            raise ForbiddenError(f"unknown scope {scope}")
        scopes = self.scopes(request)
        if scope not in scopes:
            word = "scope" if len(scopes) == 1 else "scopes"
            raise ForbiddenError(
                f"the key has the {word} {' and '.join(scopes)}, and this request needs {scope}",
                hint=f"Use a key of `gpux keys create NAME --scope {scope}`.",
                scope=scope,
            )

    def scopes(self, request: Request) -> tuple[str, ...]:
        """What the key or the session of a request allows.

        Raises:
            UnauthorizedError, TooManyAttemptsError: see :meth:`check`.
        """
        if self._file is None:
            return SCOPES
        if (sent := sent_key(request)) is not None:
            return self.find(sent, request).scopes
        if (session := self.session(request)) is not None:
            key = self._file.by_id(session.key)
            if key is not None:
                return key.scopes
            raise UnauthorizedError("the key of this session is revoked or has expired", hint="Log in again.")
        if key_in_query(request):
            raise UnauthorizedError("a key in the address is not read, as addresses are logged", hint=_HINT)
        raise UnauthorizedError("this server needs a key", hint=_HINT)

    def key_id(self, request: Request) -> str | None:
        """The id of the key that a request is made with, or that its session began with; None where no key is needed.

        Raises:
            UnauthorizedError, TooManyAttemptsError: see :meth:`check`.
        """
        if self._file is None:
            return None
        if (sent := sent_key(request)) is not None:
            return self.find(sent, request).id
        session = self.session(request)
        return None if session is None else session.key

    def find(self, text: str, request: Request) -> Key:
        """The key of a text.

        Raises:
            UnauthorizedError, TooManyAttemptsError: see :meth:`check`.
        """
        found = None if self._file is None else self._file.find(text)
        if found is not None:
            return found
        wait = self._attempts.add(request.client.host if request.client else "")
        if wait is not None:
            raise TooManyAttemptsError("too many wrong keys", hint="Check the key.", retry_after=wait)
        raise UnauthorizedError("the key is unknown, revoked or has expired", hint=_HINT)

    def session(self, request: Request) -> Session | None:
        """The session of a request's cookie, if a page of the server itself sent it."""
        token = request.cookies.get(cookie_name(request.scope))
        return self.sessions.find(token) if token and _is_own_page(request) else None


def sent_key(request: Request) -> str | None:
    """The key in ``Authorization: Bearer`` or ``X-API-Key``.

    Raises:
        UnauthorizedError: both are sent and differ, or there is another kind of authorization.
    """
    authorization = request.headers.get("authorization")
    other = request.headers.get("x-api-key")
    if authorization is None:
        return other
    kind, _, given = authorization.partition(" ")
    if kind.lower() != "bearer":
        raise UnauthorizedError("the authorization is of another kind than Bearer", hint=_HINT)
    given = given.strip()
    if other is not None and other != given:
        raise UnauthorizedError("Authorization and X-API-Key have different keys", hint="Send one of them.")
    return given


def key_in_query(request: Request) -> bool:
    """Whether the address seems to have a key."""
    query: bytes = request.scope["query_string"]
    pairs = parse_qsl(query.decode("latin-1"), max_num_fields=None)
    return any(name.lower() in _IN_QUERY or value.startswith(PREFIX) for name, value in pairs)


def _is_own_page(request: Request) -> bool:
    """Whether the headers that only browsers set say that a page of this server sent the request."""
    headers: Mapping[str, str] = request.headers
    authority = parse_authority(headers.get("host", ""))
    if authority is None:
        return False
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and parse_origin(origin) != own_origin(request.scope["scheme"], authority):
        return False
    if site is not None and site != "same-origin":
        return site == "none" and request.method in _SAFE
    return origin is not None or site is not None
