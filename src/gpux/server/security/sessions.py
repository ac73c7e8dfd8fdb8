"""Sessions of browsers: a key is typed once, and a cookie stands for it until the server ends."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

#: Seconds.
LIFETIME = 12 * 3600
_MOST = 1000


@dataclass(frozen=True)
class Session:
    """A session: the id of its key, and when it ends, in seconds since the epoch."""

    key: str
    expires: float


class Sessions:
    """The sessions of a server, in its memory only; of their ids it keeps hashes."""

    def __init__(self) -> None:
        self._found: dict[bytes, Session] = {}

    def start(self, key: str, expires: float | None = None) -> tuple[str, Session]:
        """A new session for a key: its id for the cookie, and the session.

        Args:
            key: id of the key.
            expires: when the key expires.
        """
        now = time.time()
        self._found = {digest: one for digest, one in self._found.items() if one.expires > now}
        while len(self._found) >= _MOST:
            del self._found[next(iter(self._found))]
        token = secrets.token_urlsafe(32)
        session = Session(key, now + LIFETIME if expires is None else min(expires, now + LIFETIME))
        self._found[_digest(token)] = session
        return token, session

    def find(self, token: str) -> Session | None:
        """The session of an id, if it has not ended."""
        found = self._found.get(_digest(token))
        return found if found is not None and found.expires > time.time() else None

    def end(self, token: str) -> None:
        """End a session."""
        self._found.pop(_digest(token), None)


def cookie_name(scope: MutableMapping[str, Any]) -> str:
    """The name of the cookie.

    Cookies of a host are shared by all its ports, so that the port is part of the name. With https, the prefix makes
    browsers refuse a cookie that another host or an unencrypted page has set.
    """
    server = scope.get("server")
    name = f"gpux-session-{server[1]}" if server and server[1] else "gpux-session"
    return f"__Host-{name}" if scope["scheme"] == "https" else name


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
