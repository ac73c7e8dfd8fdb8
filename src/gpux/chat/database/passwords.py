"""Passwords of private conversations: scrypt (RFC 7914), compared in constant time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

from gpux.errors import UsageError

#: Cost, block size and parallelism: 16 MB and about 50 ms.
_COST = (2**14, 8, 1)
_LONGEST = 1024  #: bytes


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
