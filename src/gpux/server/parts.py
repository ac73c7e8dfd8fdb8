"""What packages above the server add to it, from the entry point group ``gpux.server_parts``.

A part brings APIs with their routes, and a service that starts and ends with the server. By entry points, the server
needs to know none of them, and a third party's package can add one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from gpux.errors import GpuxError
from gpux.system.plugins import registered

if TYPE_CHECKING:  # the core holds the services of the parts
    from gpux.server.api.endpoint import Api
    from gpux.server.core import Core


class Service(Protocol):
    """What a part does while the server runs, beside its endpoints."""

    async def start(self) -> None:
        """Called once the core has started. What takes long belongs into a task."""

    def end_requests(self, error: GpuxError) -> None:
        """End requests that still run with an error, since the server does not wait for them any longer."""

    async def close(self) -> None:
        """Called before the core ends, also where :meth:`start` failed."""


@dataclass(frozen=True)
class Part:
    """APIs and a service; see the module.

    Its module is imported at every start of a server, so that heavy libraries are to be imported by the service.
    """

    name: str  #: that of its entry point, and key of the service in :attr:`Core.services`
    apis: tuple[Api, ...]
    service: Callable[[Core], Service]  #: makes the service of one server
    requirement: str = ""  #: what pip installs :attr:`libraries` by
    libraries: tuple[str, ...] = ()  #: modules without which the APIs refuse requests

    @property
    def missing(self) -> str | None:
        """The first of the libraries that is not installed; none is imported."""
        return next((name for name in self.libraries if find_spec(name) is None), None)


@cache
def parts(without: frozenset[str] = frozenset()) -> tuple[Part, ...]:
    """The parts of all installed packages, by the names of their entry points.

    Args:
        without: names of parts that are left out.
    """
    points = registered("gpux.server_parts", "part of the server")
    return tuple(points[name].load() for name in sorted(points) if name not in without)
