"""Errors of the places where models come from."""

from __future__ import annotations

from gpux.errors.base import GpuxError


class ManagerError(GpuxError):
    """The place where models come from answered with an error."""

    exit_code = 5


class ModelNotFoundError(ManagerError):
    """No such model, or no right to see it: the Hub does not tell which."""

    exit_code = 3


class RevisionNotFoundError(ManagerError):
    """The model has no such branch, tag, pull request or commit."""

    exit_code = 3


class EntryNotFoundError(ManagerError):
    """The model has no such file at this revision."""

    exit_code = 3


class AccessError(ManagerError):
    """The model exists and this user may not have it."""

    exit_code = 4


class InvalidTokenError(AccessError):
    """The token was refused."""


class GatedModelError(AccessError):
    """Access is granted on the model's page, by the owner or by accepting terms."""


class DisabledModelError(AccessError):
    """The Hub switched this model off."""


class UnavailableError(ManagerError):
    """The same request may work later."""


class NetworkError(UnavailableError):
    """Nothing answered: no network, no name, no route, a refused, cut or timed out connection."""


class HubServerError(UnavailableError):
    """The Hub answered 5xx, or nothing that can be understood."""


class RateLimitError(UnavailableError):
    """The Hub answered 429; ``details["retry_after"]`` is in seconds where it said so."""


class OfflineError(UnavailableError):
    """Offline was asked for and what is needed is not on this machine."""


class UnsafePathError(ManagerError):
    """A file name of the repository leads out of the folder it belongs to."""

    exit_code = 6
