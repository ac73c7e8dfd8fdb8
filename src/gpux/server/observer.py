"""What is reported of requests to workers while the server runs; the metrics are the receiver of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpux.errors import GpuxError

if TYPE_CHECKING:  # the workers import this module
    from gpux.server.workers.messages import Load


class Watch:
    """One request to a worker; this one ignores what it is given."""

    def reply(self, reply: Any) -> None:
        """A reply has arrived: pieces, then the last one."""

    def failed(self, error: GpuxError | None) -> None:
        """The request has failed; None: the client has left."""


class Observer:
    """Receives reports, of models by their names; this one ignores them. Methods return at once."""

    def reported(self, model: str, load: Load) -> None:
        """A worker has sent what it is doing."""

    def watch(self, model: str, request: Any) -> Watch:
        """A request is sent to the worker of a model."""
        return Watch()
