"""API keys: a file with their hashes.

A key has 256 random bits, so that its SHA-256 cannot be reversed by trying keys: a slow hash such as scrypt protects
what people choose, and would cost each request some 50 ms.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import stat
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gpux.errors import CorruptFileError, NotWritableError, UsageError
from gpux.system.files import write_atomic
from gpux.system.locks import hold

log = logging.getLogger(__name__)

PREFIX = "gpux_"  #: of keys, so that scanners of secrets find them
SCOPES = ("read", "infer", "manage")
FILE = "server-keys.json"  #: below GPUX_HOME
_LONGEST = 1 << 20  #: bytes of a file of keys
_LONGEST_NAME = 80


class Key(msgspec.Struct, frozen=True):
    """What is stored of a key."""

    id: str
    name: str
    sha256: str  #: of the whole key, in hex
    scopes: tuple[str, ...]
    created: int  #: seconds since the epoch
    expires: int | None = None

    def expired(self, now: float | None = None) -> bool:
        """Whether its time has passed."""
        return self.expires is not None and self.expires <= (time.time() if now is None else now)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values, without the hash."""
        found = {name: getattr(self, name) for name in ("id", "name", "created", "expires")}
        return {**found, "scopes": list(self.scopes), "expired": self.expired()}


class _File(msgspec.Struct):
    version: int
    keys: list[Key]


def hash_of(key: str) -> str:
    """The hash that the file has of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys(path: Path) -> list[Key]:
    """The keys of a file, expired ones included; none if the file does not exist.

    Raises:
        CorruptFileError: it is not a file of keys.
        NotWritableError: it cannot be read.
        UsageError: other users can write it, and could add keys.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_LONGEST + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NotWritableError(f"{path} cannot be read: {error.strerror}", hint="Check its owner and mode.") from None
    if os.name != "nt" and mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(f"other users can write {path}", hint=f"Run `chmod go-w {path}`.")
    try:
        found = msgspec.json.decode(data, type=_File)
    except (ValueError, RecursionError):
        found = None
    if found is None or found.version != 1:
        raise CorruptFileError(
            f"{path} is not a file of keys", hint="Delete it, and create keys with `gpux keys create NAME`.", path=path
        )
    return found.keys


def create_key(
    path: Path, name: str, *, scopes: Sequence[str] = ("read", "infer"), expires: int | None = None
) -> tuple[str, Key]:
    """Add a key to a file, which is created if it does not exist; the key itself is not stored.

    Args:
        path: the file; only its owner can read it.
        name: what the key is for.
        scopes: of :data:`SCOPES`.
        expires: seconds since the epoch.

    Raises:
        UsageError: the name is used or empty, or there is no such scope.
        CorruptFileError, NotWritableError: see :func:`read_keys`.
    """
    name = name.strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise UsageError(f"a name has 1 to {_LONGEST_NAME} printable characters", hint="Try `gpux keys create laptop`.")
    wrong = [scope for scope in scopes if scope not in SCOPES]
    if wrong or not scopes:
        raise UsageError(f"unknown scope {', '.join(wrong) or 'none'}", hint=f"Scopes: {', '.join(SCOPES)}.")
    if expires is not None and expires <= time.time():
        raise UsageError("the key would have expired already", hint="Give a later time, or none.")
    text = PREFIX + secrets.token_urlsafe(32)
    with _locked(path):
        keys = read_keys(path)
        if any(key.name == name for key in keys):
            raise UsageError(
                f"there is a key with the name {name!r}", hint=f"Choose another, or `gpux keys revoke {name}`."
            )
        given = tuple(scope for scope in SCOPES if scope in scopes)
        key = Key(secrets.token_hex(4), name, hash_of(text), given, int(time.time()), expires)
        _write(path, [*keys, key])
    return text, key


def revoke_key(path: Path, which: str) -> Key:
    """Remove a key, by its id or name.

    Raises:
        UsageError: there is no such key.
        CorruptFileError, NotWritableError: see :func:`read_keys`.
    """
    with _locked(path):
        keys = read_keys(path)
        found = next((key for key in keys if which in (key.id, key.name)), None)
        if found is None:
            raise UsageError(f"there is no key {which!r}", hint="`gpux keys list` shows them.")
        _write(path, [key for key in keys if key is not found])
    return found


def _locked(path: Path) -> Any:
    return hold(path.with_name(f".{path.name}.lock"))


def _write(path: Path, keys: Iterable[Key]) -> None:
    data = msgspec.json.format(msgspec.json.encode(_File(1, list(keys))), indent=1)
    try:
        write_atomic(path, data + b"\n", flush=True, private=True)
    except OSError as error:
        raise NotWritableError(f"{path} cannot be written: {error.strerror}", hint="Choose another --file.") from None


class KeyFile:
    """The keys of a running server: the file is read again when it has changed.

    A file that is deleted allows nothing. One that is damaged, while the server runs, leaves the keys as they were.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._keys: list[Key] = read_keys(path)
        self._seen = self._state()

    def keys(self) -> list[Key]:
        """The current keys."""
        state = self._state()
        if state != self._seen:
            self._seen = state
            try:
                self._keys = read_keys(self._path)
            except (CorruptFileError, NotWritableError, UsageError) as error:
                log.warning("the keys are as before: %s", error)
        return self._keys

    def find(self, text: str) -> Key | None:
        """The key that a request has sent, unless it has expired. The time it takes does not depend on the text."""
        digest, found = hash_of(text), None
        for key in self.keys():
            if hmac.compare_digest(key.sha256, digest):
                found = key
        return None if found is None or found.expired() else found

    def by_id(self, id: str) -> Key | None:
        """A key that is not revoked and has not expired."""
        found = next((key for key in self.keys() if key.id == id), None)
        return None if found is None or found.expired() else found

    def _state(self) -> tuple[int, ...] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
