"""Access control: the statuses and error codes by which huggingface_hub classifies refusals.

Anonymous callers get 401 for private and for missing repositories, callers with a valid token 404 for both. An invalid
token is refused everywhere, for public repositories too.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.message import Message

from tests.hub.messages import HubError
from tests.hub.repository import Repository
from tests.hub.settings import Options, User


class Gatekeeper:
    """Checks users and their access to repositories."""

    def __init__(self, users: Mapping[str, User], options: Options) -> None:
        self.users = dict(users)
        self._options = options

    def authenticate(self, headers: Message) -> User | None:
        """The caller, or None without an Authorization header. Raises HubError (401) for an unknown token."""
        value = headers.get("Authorization")
        if value is None:
            return None
        scheme, _, token = value.partition(" ")
        user = self.users.get(token.strip())
        if scheme.lower() != "bearer" or user is None:
            raise HubError(401, "Invalid credentials in Authorization header")
        return user

    def may_see(self, user: User | None, repository: Repository) -> bool:
        """Whether the existence of a repository is visible to this caller."""
        return not repository.settings.private or has_access(user, repository)

    def check_visible(self, user: User | None, repository: Repository | None) -> Repository:
        """Returns the repository if it is visible to the caller and not disabled; else raises HubError."""
        if repository is None or not self.may_see(user, repository):
            raise self.not_found(user)
        if repository.settings.disabled:
            raise HubError(403, "Access to this resource is disabled.")
        return repository

    def check_download(self, user: User | None, repository: Repository) -> None:
        """Raises HubError if the repository is gated and the caller has no access."""
        if not repository.settings.gated or has_access(user, repository):
            return
        text = f"Access to model {repository.id} is restricted"
        if user is None:
            text += ". You must have access to it and be authenticated to access it. Please log in."
            raise HubError(401, text, "GatedRepo")
        text += f" and you are not in the authorized list. Visit /{repository.id} to ask for access."
        raise HubError(403, text, "GatedRepo")

    def not_found(self, user: User | None) -> HubError:
        """The refusal for a missing or invisible repository.

        The Hub sends no error code to anonymous callers; huggingface_hub recognizes the case by the https URL. For
        http URLs it cannot, hence the code unless `strict_401` is set.
        """
        if user is not None:
            return HubError(404, "Repository not found", "RepoNotFound")
        code = None if self._options.strict_401 else "RepoNotFound"
        return HubError(401, "Invalid username or password.", code)


def has_access(user: User | None, repository: Repository) -> bool:
    """Whether a user owns a repository, is in its organization or is on its list."""
    if user is None:
        return False
    return repository.author in (user.name, *user.orgs) or user.name in repository.settings.allowed
