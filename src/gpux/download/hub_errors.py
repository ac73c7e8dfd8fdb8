"""Answers of the Hub that are no good -> gpux's errors, from status, ``X-Error-Code`` and ``X-Error-Message``.

The codes are the ones huggingface_hub reads (``utils/_http.py: hf_raise_for_status``). Messages of ours name the
model; the token never appears in one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gpux.errors import (
    AccessError,
    DisabledModelError,
    EntryNotFoundError,
    GatedModelError,
    HubServerError,
    InvalidTokenError,
    ManagerError,
    ModelNotFoundError,
    NetworkError,
    RateLimitError,
    RevisionNotFoundError,
)

BAD_TOKEN_MESSAGE = "Invalid credentials in Authorization header"  # noqa: S105 - a server's text, not a token
DISABLED_MESSAGE = "Access to this resource is disabled."


@dataclass(frozen=True)
class Asked:
    """What a request was about, so that its error can say so."""

    endpoint: str
    model: str = ""
    revision: str | None = None
    file: str | None = None
    with_token: bool = False
    kind: str = "model"  #: ``model``, or ``Space``, whose id is then ``spaces/org/name``

    @property
    def page(self) -> str:
        """The model's page."""
        return f"{self.endpoint}/{self.model}"


def from_response(status: int, headers: Mapping[str, str], asked: Asked) -> ManagerError:
    """The error that an HTTP answer means; ``headers`` must be case-insensitive."""
    code, message = headers.get("X-Error-Code", ""), headers.get("X-Error-Message", "")
    if code == "RevisionNotFound":
        return revision_not_found(asked)
    if code == "EntryNotFound":
        return entry_not_found(asked)
    if code == "GatedRepo":
        return gated(asked)
    if message == DISABLED_MESSAGE:
        return disabled(asked)
    if status == 401 and (message.startswith(BAD_TOKEN_MESSAGE) or not asked.model):
        return invalid_token(asked)
    if code == "RepoNotFound" or (asked.model and status in (401, 404)):  # over http the Hub's 401 carries no code
        return model_not_found(asked)
    if status == 403:
        return AccessError(f"the Hub refuses access to {asked.model}: {message or 'HTTP 403'}", model=asked.model)
    if status == 429:
        return rate_limited(asked, headers)
    return HubServerError(
        f"the Hub at {asked.endpoint} answered HTTP {status} for {asked.model or 'this request'}"
        + (f": {message}" if message else ""),
        hint="Try again later.",
        status=status,
    )


def model_not_found(asked: Asked) -> ModelNotFoundError:
    """401 and 404 look alike from outside: missing, private, or renamed without a redirect."""
    access = (
        "or the token that is in use may not see it"
        if asked.with_token
        else "or it is private and needs a token (HF_TOKEN, or `gpux auth login`)"
    )
    search = f"Look for it with `gpux search {asked.model.rsplit('/', 1)[-1]}`."
    return ModelNotFoundError(
        f"{asked.model}: no such {asked.kind} at {asked.endpoint}, {access}",
        hint=search if asked.kind == "model" else f"Its page would be {asked.page}.",
        model=asked.model,
    )


def revision_not_found(asked: Asked) -> RevisionNotFoundError:
    """The model is there, the revision is not."""
    return RevisionNotFoundError(
        f"{asked.model} has no revision {asked.revision!r}",
        hint=f"See what it has with `gpux revisions {asked.model}`.",
        model=asked.model,
        revision=asked.revision,
    )


def entry_not_found(asked: Asked) -> EntryNotFoundError:
    """The model is there, the file is not."""
    return EntryNotFoundError(
        f"{asked.model} has no file {asked.file!r} at {asked.revision or 'its default branch'}",
        hint=f"See its files with `gpux info {asked.model} --files`.",
        model=asked.model,
        file=asked.file,
    )


def gated(asked: Asked) -> GatedModelError:
    """Access is asked for on the model's page, then a token proves who asks."""
    if asked.with_token:
        message = f"{asked.model} is gated and the token that is in use has no access to it"
        hint = f"Ask for access at {asked.page}, then run the command again."
    else:
        message = f"{asked.model} is gated and no token was sent"
        hint = f"Ask for access at {asked.page}, then run `gpux auth login` or set HF_TOKEN."
    return GatedModelError(message, hint=hint, model=asked.model, page=asked.page)


def disabled(asked: Asked) -> DisabledModelError:
    """Nothing a user can do."""
    return DisabledModelError(
        f"{asked.model} was disabled by the Hub", hint=f"{asked.page} may say why.", model=asked.model
    )


def invalid_token(asked: Asked) -> InvalidTokenError:
    """A wrong token is refused even for a public model."""
    return InvalidTokenError(
        f"the Hub at {asked.endpoint} refuses the token",
        hint="`gpux auth status` says where it comes from, `gpux auth login` replaces it; public models need none.",
    )


def rate_limited(asked: Asked, headers: Mapping[str, str]) -> RateLimitError:
    """429, with the waiting time where the answer has one."""
    seconds = retry_after(headers)
    wait = f"in {seconds} s" if seconds is not None else "in some minutes"
    login = "" if asked.with_token else " Requests with a token have a higher limit (`gpux auth login`)."
    return RateLimitError(
        f"the Hub at {asked.endpoint} limits requests", hint=f"Try again {wait}.{login}", retry_after=seconds
    )


def retry_after(headers: Mapping[str, str]) -> int | None:
    """Seconds to wait by ``RateLimit: "api";r=0;t=N`` (IETF draft), else ``Retry-After``; None if not told.

    While ``r``, the requests that are left, is above zero, it is no limit that refused. ``Retry-After`` is in seconds
    or a date (RFC 9110, section 10.2.3).
    """
    limits = dict(part.strip().partition("=")[::2] for part in headers.get("RateLimit", "").split(";"))
    if limits.get("t", "").isdigit() and limits.get("r", "0") == "0":
        return int(limits["t"])
    value = headers.get("Retry-After", "").strip()
    if value.isdigit() or not value:
        return int(value) if value else None
    try:
        seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # no date, or one without a zone
        return None
    return max(0, math.ceil(seconds))


def unreachable(asked: Asked, cause: object) -> NetworkError:
    """Nothing answered."""
    return NetworkError(
        f"no answer from {asked.endpoint}: {cause}",
        hint="Check the network, HTTPS_PROXY and HF_ENDPOINT; `--offline` uses what is on this machine.",
        endpoint=asked.endpoint,
    )


def check_token(token: str) -> str:
    """The token without white space around it, if it can be one.

    Raises:
        InvalidTokenError: it is empty, or holds what no HTTP header takes.
    """
    token = token.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        why = "holds white space or letters beyond ASCII" if token else "is empty"
        raise InvalidTokenError(f"the token {why}", hint="Copy it again from the Hub's page of tokens, one line.")
    return token
