"""Access to endpoints by key and scope."""

from __future__ import annotations

from starlette.requests import Request

from gpux.server.settings import ServerSettings


class Access:
    """Checks each request where it is routed."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings

    def check(self, request: Request, scope: str) -> None:
        """Refuse a request that may not use an endpoint of this scope.

        Raises:
            UnauthorizedError: there is no key, or an unknown one.
            ForbiddenError: the key does not have the scope.
        """
