"""Login, logout and login status; the token itself is never shown.

The token file is the one of huggingface_hub (``utils/_auth.py``): the bare token as text, readable by its owner only.
``stored_tokens`` beside it, the named tokens of ``hf auth switch``, is not changed. ``huggingface_hub.login`` is not
used: it writes to the path that the environment named at its import, and truncates the old token before the new one is
written, so that a full disk leaves no token.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpux.download.hub_errors import check_token, refuse_offline
from gpux.errors import AccessError, HubServerError, InvalidTokenError, NotWritableError, StorageError, UsageError
from gpux.model.values import Value
from gpux.system import keystore
from gpux.system.disk import disk_errors
from gpux.system.files import write_atomic
from gpux.system.settings import Settings, TokenSource, token_sources

LOGIN_HINT = "Log in with `gpux auth login`, or set HF_TOKEN."
FILE_HINT = "Make it writable, or let HF_TOKEN_PATH or HF_HOME name another place."


@dataclass(frozen=True)
class Account(Value):
    """The account that a token belongs to, and the token's role."""

    name: str
    orgs: tuple[str, ...] = ()
    kind: str = "user"  #: ``user`` or ``org``
    role: str | None = None  #: of the token: ``read``, ``write``, ``fineGrained``; None if the Hub does not send it
    token_name: str | None = None  #: its name on the Hub's page of tokens


@dataclass(frozen=True)
class TokenStatus(Value):
    """Where the token in use is stored and whose it is, without the token itself."""

    source: str  #: ``environment``, ``file``, ``keyring`` or ``argument``
    place: str  #: the variable, the file, or the name of the key store
    account: Account | None  #: None when offline
    overridden_by: str | None = None  #: the variable that takes precedence over the token that was just stored
    unused: tuple[str, ...] = ()  #: other places with a token, which has lower precedence


@dataclass(frozen=True)
class Logout(Value):
    """The result of a logout."""

    removed: tuple[str, ...]  #: the places from which a token was removed
    still_set: str | None = None  #: the variable that still provides a token
    other_tokens: str | None = None  #: the file of ``hf auth`` with named tokens, if it exists


def account_from(found: dict[str, Any]) -> Account:
    """Read the response of ``whoami-v2``; a token of an OAuth login has neither role nor name.

    Raises:
        HubServerError: the response names no account.
    """
    if not isinstance(found, dict) or not found.get("name"):
        raise HubServerError("the Hub's response names no account", hint="Is HF_ENDPOINT the address of a Hub?")
    auth = found.get("auth") or {}
    token = auth.get("accessToken") or {}
    return Account(
        name=str(found["name"]),
        orgs=tuple(str(org.get("name")) for org in found.get("orgs") or ()),
        kind=str(found.get("type") or "user"),
        role=token.get("role"),
        token_name=token.get("displayName"),
    )


def login(token: str, settings: Settings | None = None, *, keyring: bool = False) -> TokenStatus:
    """Check a token with the Hub, then store it in the token file or in the system's key store.

    Raises:
        InvalidTokenError: the token is malformed, or the Hub refuses it; nothing is stored.
        UsageError: ``keyring`` is set, and a token file takes precedence over the key store.
        NotWritableError: the file or the key store cannot be written.
        UnavailableError: the Hub cannot be reached.
    """
    settings = settings or Settings.from_env()
    token = check_token(token)
    path = settings.token_path
    above = [source for source in token_sources(path) if source.kind != "keyring"] if keyring else []
    if any(source.kind == "file" for source in above):
        raise UsageError(
            f"the token in {path} would take precedence over the key store",
            hint="Remove it with `gpux auth logout`, then log in again.",
        )
    try:
        account = _account(settings, token)
    except InvalidTokenError as exc:
        hint = f"Nothing was stored. Your tokens are at {settings.endpoint}/settings/tokens."
        raise InvalidTokenError(exc.message, hint=hint) from exc
    if keyring:
        kind, place = "keyring", keystore.keep(path, token)
    else:
        kind, place = "file", str(path)
        _write(path, token)
    return TokenStatus(kind, place, account, overridden_by=_variable(path))


def status(settings: Settings | None = None) -> TokenStatus:
    """The source and the account of the token in use: one request; none when offline.

    Raises:
        AccessError: there is no token, or its use is disabled.
        InvalidTokenError: the Hub refuses the token.
        StorageError: the key store has the token and does not return it.
    """
    settings = settings or Settings.from_env()
    sources = _sources(settings)
    if settings.token is None:
        if not sources:
            raise AccessError("not logged in: there is no token", hint=LOGIN_HINT)
        places = ", ".join(source.place for source in sources)
        raise AccessError(f"the token ({places}) is not used", hint="Unset HF_HUB_DISABLE_IMPLICIT_TOKEN to use it.")
    used = next((s for s in sources if s.token == settings.token), TokenSource("argument", "token=", settings.token))
    unused = tuple(source.place for source in sources if source is not used)
    try:
        account = None if settings.offline else _account(settings, settings.token)
    except InvalidTokenError as exc:
        message = f"{exc.message} (from {used.place})"
        raise InvalidTokenError(message, hint=_replace_hint(used), source=used.kind, place=used.place) from exc
    return TokenStatus(used.kind, used.place, account, unused=unused)


def logout(settings: Settings | None = None) -> Logout:
    """Remove the token from the token file and from the key store, without a request.

    Raises:
        NotWritableError: the file cannot be removed.
        StorageError: the key store does not remove it.
    """
    path = (settings or Settings.from_env()).token_path
    removed = []
    if _remove(path):
        removed.append(str(path))
    forgotten = keystore.forget(path)
    if forgotten:
        removed.append(forgotten)
    others = str(path.with_name("stored_tokens"))
    return Logout(tuple(removed), _variable(path), others if os.access(others, os.R_OK) else None)


def _sources(settings: Settings) -> list[TokenSource]:
    """Every place with a token; a key store that fails is an error only if no other place has a token."""
    found = []
    try:
        for source in token_sources(settings.token_path):
            found.append(source)  # one by one: sources before a failure count
    except StorageError:
        if not found and settings.token is None:
            raise
    return found


def _account(settings: Settings, token: str) -> Account:
    from gpux.huggingface.client import HubClient  # deferred for start-up: imports huggingface_hub

    refuse_offline(settings, "look up the token's account")
    client = HubClient(settings.endpoint, token, settings.timeout, settings.ca_bundle)
    return account_from(client.whoami())


def _variable(path: Path) -> str | None:
    """The environment variable that provides a token; it takes precedence over all other sources."""
    first = next(token_sources(path), None)
    return first.place if first and first.kind == "environment" else None


def _replace_hint(used: TokenSource) -> str:
    if used.kind == "environment":
        return f"Unset {used.place}, or set it to another token."
    return "`gpux auth login` replaces it, `gpux auth logout` removes it; public models need none."


def _write(path: Path, token: str) -> None:
    """Replace the file atomically; readable by its owner only, from the first byte on."""
    path = path.resolve()  # where the file is a symlink, its target is replaced
    try:
        with disk_errors(path, hint=FILE_HINT):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, token.encode("ascii"), flush=True, private=True)
    except OSError as exc:  # not mapped by disk_errors: a folder in place of the file
        raise NotWritableError(f"cannot write to {path}: {exc.strerror}", hint=FILE_HINT, path=str(path)) from exc


def _remove(path: Path) -> bool:
    """Delete the token file; True if it existed."""
    try:
        with disk_errors(path, hint="Remove it as its owner."):
            path.unlink()
    except (FileNotFoundError, IsADirectoryError):
        return False
    return True
