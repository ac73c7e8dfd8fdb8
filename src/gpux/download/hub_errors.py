"""Maps HTTP error responses of the Hub to gpux errors, by status, ``X-Error-Code`` and ``X-Error-Message``.

The codes are those that huggingface_hub reads (``utils/_http.py: hf_raise_for_status``). The messages name the model;
none contains the token.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from gpux.errors import (
    ONLINE_HINT,
    AccessError,
    DisabledModelError,
    EntryNotFoundError,
    GatedModelError,
    HubServerError,
    InvalidTokenError,
    ManagerError,
    ModelNotFoundError,
    NetworkError,
    OfflineError,
    RateLimitError,
    RevisionNotFoundError,
)
from gpux.system.settings import Settings

ENDPOINT_HINT = "Is HF_ENDPOINT the address of a Hub?"
MALFORMED_HINT = (
    "Copy it again from the Hub's page of tokens: `gpux auth status` names its place, `gpux auth login` replaces it."
)
BAD_TOKEN_MESSAGE = "Invalid credentials in Authorization header"  # noqa: S105 - a server's text, not a token
DISABLED_MESSAGE = "Access to this resource is disabled."


@dataclass(frozen=True)
class RequestContext:
    """The model and file that a request is about, for its error message."""

    endpoint: str
    model: str = ""
    revision: str | None = None
    file: str | None = None
    with_token: bool = False
    kind: str = "model"  #: ``model``, or ``Space``, whose id is then ``spaces/org/name``

    @property
    def page(self) -> str:
        """The URL of the model's page."""
        return f"{self.endpoint}/{self.model}"


def from_response(status: int, headers: Mapping[str, str], context: RequestContext) -> ManagerError:
    """The error that an HTTP response means; ``headers`` must be case-insensitive."""
    code, message = headers.get("X-Error-Code", ""), headers.get("X-Error-Message", "")
    if code == "RevisionNotFound":
        return revision_not_found(context)
    if code == "EntryNotFound":
        return entry_not_found(context)
    if code == "GatedRepo":
        return gated(context)
    if message == DISABLED_MESSAGE:
        return disabled(context)
    if status == 401 and (message.startswith(BAD_TOKEN_MESSAGE) or not context.model):
        return invalid_token(context)
    if code == "RepoNotFound" or (context.model and status in (401, 404)):  # over http the Hub's 401 carries no code
        return model_not_found(context)
    if status == 403:
        return AccessError(f"the Hub refuses access to {context.model}: {message or 'HTTP 403'}", model=context.model)
    if status == 429:
        return rate_limited(context, headers)
    return HubServerError(
        f"the Hub at {context.endpoint} answered HTTP {status} for {context.model or 'this request'}"
        + (f": {message}" if message else ""),
        hint="Try again later.",
        status=status,
    )


def refusal(status: int, headers: Mapping[str, str], context: RequestContext) -> ManagerError:
    """As :func:`from_response`, with the time that the server asks to wait, whatever the status."""
    error = from_response(status, headers, context)
    if (seconds := retry_after(headers)) is not None:
        error.details.setdefault("retry_after", seconds)
    return error


def invalid_description(context: RequestContext, why: object) -> HubServerError:
    """A response that is not what the Hub's API sends; another attempt would not change it."""
    return HubServerError(
        f"the Hub at {context.endpoint} sent an invalid description of {context.model or 'models'}: {why}",
        hint=ENDPOINT_HINT,
        status=200,
    )


def model_not_found(context: RequestContext) -> ModelNotFoundError:
    """401 and 404: missing, private and renamed models look the same to a client."""
    access = (
        "or the token in use has no access to it"
        if context.with_token
        else "or it is private and needs a token (HF_TOKEN, or `gpux auth login`)"
    )
    return ModelNotFoundError(
        f"{context.model}: no such {context.kind} at {context.endpoint}, {access}",
        hint=_look_for(context) if context.kind == "model" else f"Its page would be {context.page}.",
        model=context.model,
    )


def _look_for(context: RequestContext) -> str:
    """How to find a model whose id is wrong, and one that this user may not see, which no search shows."""
    owner, _, name = context.model.rpartition("/")
    search = f"`gpux search {name}`" + (f" or `gpux search --author {owner}`" if owner else "")
    if context.with_token:
        return f"Look for its right name with {search}; `gpux auth status` shows whose token is in use."
    return f"Look for its right name with {search}; if it is private, run `gpux auth login`."


def revision_not_found(context: RequestContext) -> RevisionNotFoundError:
    """The model exists, the revision does not."""
    return RevisionNotFoundError(
        f"{context.model} has no revision {context.revision!r}",
        hint=f"List its revisions with `gpux revisions {context.model}`.",
        model=context.model,
        revision=context.revision,
    )


def entry_not_found(context: RequestContext) -> EntryNotFoundError:
    """The model exists, the file does not."""
    at = f"{context.model}@{context.revision}" if context.revision else context.model
    return EntryNotFoundError(
        f"{context.model} has no file {context.file!r} at {context.revision or 'its default branch'}",
        hint=f"List its files with `gpux info {at} --files`.",
        model=context.model,
        file=context.file,
    )


def gated(context: RequestContext) -> GatedModelError:
    """Access is requested on the model's page, and a token identifies who has it."""
    if context.with_token:
        message = f"{context.model} is gated and the token in use has no access to it"
        hint = f"Request access at {context.page}, then run the command again."
    else:
        message = f"{context.model} is gated and no token was sent"
        hint = f"Request access at {context.page}, then run `gpux auth login` or set HF_TOKEN."
    return GatedModelError(message, hint=hint, model=context.model, page=context.page)


def disabled(context: RequestContext) -> DisabledModelError:
    """The Hub blocks the model for everyone."""
    return DisabledModelError(
        f"{context.model} was disabled by the Hub", hint=f"{context.page} may say why.", model=context.model
    )


def invalid_token(context: RequestContext) -> InvalidTokenError:
    """The Hub refuses a wrong token even for a public model."""
    return InvalidTokenError(
        f"the Hub at {context.endpoint} refuses the token",
        hint="`gpux auth status` shows its source, `gpux auth login` replaces it; public models need no token.",
    )


def rate_limited(context: RequestContext, headers: Mapping[str, str]) -> RateLimitError:
    """429, with the waiting time if the response has one."""
    seconds = retry_after(headers)
    wait = f"in {seconds} s" if seconds is not None else "in a few minutes"
    login = "" if context.with_token else " Requests with a token have a higher limit (`gpux auth login`)."
    return RateLimitError(
        f"the Hub at {context.endpoint} limits requests", hint=f"Try again {wait}.{login}", retry_after=seconds
    )


def retry_after(headers: Mapping[str, str]) -> int | None:
    """Seconds to wait by ``RateLimit: "api";r=0;t=N`` (IETF draft), else ``Retry-After``; None without either.

    ``t`` counts only if ``r``, the number of requests left, is 0: otherwise the refusal has another cause.
    ``Retry-After`` is in seconds or a date (RFC 9110, section 10.2.3).
    """
    limits = dict(part.strip().partition("=")[::2] for part in headers.get("RateLimit", "").split(";"))
    if limits.get("t", "").isdigit() and limits.get("r", "0") == "0":
        return int(limits["t"])
    value = headers.get("Retry-After", "").strip()
    if value.isdigit() or not value:
        return int(value) if value else None
    try:
        seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):  # not a date, or a date without a time zone
        return None
    return max(0, math.ceil(seconds))


def unreachable(context: RequestContext, cause: object) -> NetworkError:
    """No response arrived, or it broke off."""
    offline = "; `--offline` uses what is on this machine" if context.model and context.kind == "model" else ""
    return NetworkError(
        f"no answer from {context.endpoint}: {cause}",
        hint=f"Check the network, HTTPS_PROXY and HF_ENDPOINT{offline}.",
        endpoint=context.endpoint,
    )


def refuse_offline(settings: Settings, action: str) -> None:
    """Raise if requests are switched off.

    Args:
        settings: those in use.
        action: a verb phrase that continues "cannot": ``search``, ``list revisions`` …

    Raises:
        OfflineError: ``settings.offline`` is set.
    """
    if settings.offline:
        raise OfflineError(f"offline: cannot {action} without the Hub", hint=ONLINE_HINT)


def check_token(token: str) -> str:
    """The token without surrounding white space.

    Raises:
        InvalidTokenError: it is empty, or contains characters that an HTTP header must not contain.
    """
    token = token.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        why = "contains white space or non-ASCII characters" if token else "is empty"
        raise InvalidTokenError(f"the token {why}", hint=MALFORMED_HINT)
    return token
