"""Tokens: validated, kept where every Hugging Face tool looks, removed, and told about without being shown.

The token file is huggingface_hub's (``utils/_auth.py``): the bare token as text, readable by its owner only. The
``stored_tokens`` beside it, a list of named tokens for ``hf auth switch``, belongs to that tool and is left alone.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpux.download.hub_errors import check_token, refuse_offline
from gpux.errors import AccessError, HubServerError, InvalidTokenError, NotWritableError, StorageError, UsageError
from gpux.model.values import Value
from gpux.system import keystore
from gpux.system.disk import disk_errors
from gpux.system.settings import Settings, TokenSource, token_sources

LOGIN_HINT = "Log in with `gpux auth login`, or set HF_TOKEN."
FILE_HINT = "Make it writable, or let HF_TOKEN_PATH or HF_HOME name another place."


@dataclass(frozen=True)
class Account(Value):
    """Whose token it is, and what it may do."""

    name: str
    orgs: tuple[str, ...] = ()
    kind: str = "user"  #: ``user`` or ``org``
    role: str | None = None  #: of the token: ``read``, ``write``, ``fineGrained``; None where the Hub does not tell
    token_name: str | None = None  #: as the user called it on the Hub's page of tokens


@dataclass(frozen=True)
class TokenStatus(Value):
    """Where a token is and whose it is; never the token itself."""

    source: str  #: ``environment``, ``file``, ``keyring`` or ``argument``
    place: str  #: the variable, the file, or the name of the key store
    account: Account | None  #: None when offline
    overridden_by: str | None = None  #: the variable that stands above a token which was just kept
    unused: tuple[str, ...] = ()  #: other places with a token, which do not count while this one is there


@dataclass(frozen=True)
class Logout(Value):
    """What a logout removed and what it left."""

    removed: tuple[str, ...]  #: the places that held a token
    still_set: str | None = None  #: the variable that provides a token all the same
    other_tokens: str | None = None  #: the file in which ``hf auth`` keeps named tokens, if there is one


def account_from(found: dict[str, Any]) -> Account:
    """The Hub's answer to ``whoami-v2``; a token of an OAuth login has neither role nor name.

    Raises:
        HubServerError: it is something else.
    """
    if not isinstance(found, dict) or not found.get("name"):
        raise HubServerError("the Hub's answer names no account", hint="Is HF_ENDPOINT the address of a Hub?")
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
    """Ask the Hub whose token it is, then keep it: in the token file, or in the system's key store.

    Raises:
        InvalidTokenError: it cannot be one, or the Hub refuses it; nothing is kept.
        UsageError: ``keyring``, and a token file stands above the key store.
        NotWritableError: the file or the key store refuses.
        UnavailableError: the Hub cannot be asked.
    """
    settings = settings or Settings.from_env()
    token = check_token(token)
    path = settings.token_path
    above = [source for source in token_sources(path) if source.kind != "keyring"] if keyring else []
    if any(source.kind == "file" for source in above):
        raise UsageError(
            f"the token in {path} would stand above the key store",
            hint="Remove it with `gpux auth logout`, then log in again.",
        )
    try:
        account = _ask(settings, token)
    except InvalidTokenError as exc:
        hint = f"Nothing was kept. Your tokens are at {settings.endpoint}/settings/tokens."
        raise InvalidTokenError(exc.message, hint=hint) from exc
    if keyring:
        kind, place = "keyring", keystore.keep(path, token)
    else:
        kind, place = "file", str(path)
        _write(path, token)
    return TokenStatus(kind, place, account, overridden_by=_variable(path))


def status(settings: Settings | None = None) -> TokenStatus:
    """Where the token that is in use comes from and whose it is: one request; none when offline.

    Raises:
        AccessError: there is no token, or it must not be used.
        InvalidTokenError: the Hub refuses it.
        StorageError: the key store holds it and does not hand it out.
    """
    settings = settings or Settings.from_env()
    sources = _sources(settings)
    if settings.token is None:
        if not sources:
            raise AccessError("not logged in: there is no token", hint=LOGIN_HINT)
        places = ", ".join(source.place for source in sources)
        raise AccessError(
            f"there is a token ({places}) that is not used", hint="Unset HF_HUB_DISABLE_IMPLICIT_TOKEN to use it."
        )
    used = next((s for s in sources if s.token == settings.token), TokenSource("argument", "token=", settings.token))
    unused = tuple(source.place for source in sources if source is not used)
    try:
        account = None if settings.offline else _ask(settings, settings.token)
    except InvalidTokenError as exc:
        message = f"{exc.message} (from {used.place})"
        raise InvalidTokenError(message, hint=_replace_hint(used), source=used.kind, place=used.place) from exc
    return TokenStatus(used.kind, used.place, account, unused=unused)


def logout(settings: Settings | None = None) -> Logout:
    """Remove the token from the token file and from the key store; no request.

    Raises:
        NotWritableError: the file cannot be removed.
        StorageError: the key store refuses.
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
    """Every place; a key store that does not answer matters only where no other place has a token."""
    found = []
    try:
        for source in token_sources(settings.token_path):
            found.append(source)  # one by one: what came before a failure counts
    except StorageError:
        if not found and settings.token is None:
            raise
    return found


def _ask(settings: Settings, token: str) -> Account:
    from gpux.huggingface.client import HubClient  # imports huggingface_hub

    refuse_offline(settings, "ask whose token this is")
    return account_from(HubClient(settings.endpoint, token, settings.timeout).whoami())


def _variable(path: Path) -> str | None:
    """The environment variable that provides a token; it stands above everything, so it comes first."""
    first = next(token_sources(path), None)
    return first.place if first and first.kind == "environment" else None


def _replace_hint(used: TokenSource) -> str:
    if used.kind == "environment":
        return f"Unset {used.place}, or set it to another token."
    return "`gpux auth login` replaces it, `gpux auth logout` removes it; public models need none."


def _write(path: Path, token: str) -> None:
    """Replace the file's content in one step, readable by its owner only from the first byte on."""
    path = path.resolve()  # where the file is a link, what it points to is replaced
    try:
        with disk_errors(path, hint=FILE_HINT):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # made with mode 0600
            try:
                with os.fdopen(handle, "w", encoding="ascii") as file:
                    file.write(token)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(path)
            finally:
                with suppress(FileNotFoundError):  # it was renamed
                    Path(temporary).unlink()
    except OSError as exc:  # what disk_errors leaves: a folder in the file's place
        raise NotWritableError(f"cannot write to {path}: {exc.strerror}", hint=FILE_HINT, path=str(path)) from exc


def _remove(path: Path) -> bool:
    """True if there was such a file."""
    try:
        with disk_errors(path, hint="Remove it with the rights of its owner."):
            path.unlink()
    except (FileNotFoundError, IsADirectoryError):
        return False
    return True
