"""Passwords of private conversations: scrypt (RFC 7914), compared in constant time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import os
import time
from collections import OrderedDict

from gpux.errors import TooManyAttemptsError, UsageError

#: Wrong passwords of one conversation after which more are refused, and the seconds for which they count.
ATTEMPTS, MINUTE = 20, 60.0
_MOST = 1000  #: conversations whose wrong passwords are counted; beyond that, the oldest is forgotten
#: Cost, block size and parallelism: 16 MB and about 50 ms.
_COST = (2**14, 8, 1)
_LONGEST = 1024  #: bytes


class Attempts:
    """Wrong passwords of this process, so that a password cannot be found by trying."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, id: str) -> None:
        """Whether another password may be tried.

        Raises:
            TooManyAttemptsError: too many were wrong within a minute.
        """
        now = time.monotonic()
        recent = [moment for moment in self._wrong.get(id, ()) if moment > now - MINUTE]
        if len(recent) >= ATTEMPTS:
            raise TooManyAttemptsError(
                f"too many wrong passwords of the conversation {id!r}",
                hint="Wait a minute before the next one.",
                retry_after=max(1, math.ceil(recent[0] + MINUTE - now)),
            )

    def note(self, id: str) -> None:
        """A password was wrong."""
        self._wrong.setdefault(id, []).append(time.monotonic())
        self._wrong[id] = self._wrong[id][-ATTEMPTS:]
        self._wrong.move_to_end(id)
        while len(self._wrong) > _MOST:
            self._wrong.popitem(last=False)


def hash_password(password: str) -> str:
    """``scrypt$N$r$p$salt$hash``, with a random salt. Takes about 50 ms.

    Raises:
        UsageError: the password is empty or longer than 1024 bytes.
    """
    data = password.encode("utf-8", "surrogatepass")
    if not 0 < len(data) <= _LONGEST:
        raise UsageError(f"a password has 1 to {_LONGEST} bytes", param="password")
    salt = os.urandom(16)
    parts = (*map(str, _COST), _text(salt), _text(_derived(data, salt, *_COST)))
    return "$".join(("scrypt", *parts))


def is_password(password: str, stored: str) -> bool:
    """Whether it is the password of which :func:`hash_password` gave ``stored``. Takes about 50 ms."""
    data = password.encode("utf-8", "surrogatepass")
    if len(data) > _LONGEST:
        return False
    _, cost, block, parallel, salt, expected = stored.split("$")
    found = _derived(data, base64.b64decode(salt), int(cost), int(block), int(parallel))
    return hmac.compare_digest(found, base64.b64decode(expected))


def _derived(password: bytes, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    # scrypt pads passwords with zero bytes, so that one with zero bytes at its end would be equal to one without.
    password = hashlib.sha512(password).digest()
    return hashlib.scrypt(password, salt=salt, n=cost, r=block, p=parallel, maxmem=64 << 20, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
