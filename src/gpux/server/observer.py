"""What is reported of requests to workers while the server runs; the metrics are the receiver of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpux.errors import GpuxError

if TYPE_CHECKING:  # the workers import this module
    from gpux.server.workers.messages import Last, Load, Piece


class Watch:
    """One request to a worker; this one ignores what it is given.

    The worker's part and the client's are reported apart, since a worker also computes for a client that has left:
    :meth:`piece` and :meth:`ended` say what was computed, :meth:`answered` or :meth:`failed` what became of the answer.
    """

    def piece(self, piece: Piece) -> None:
        """A piece of text has arrived from the worker."""

    def ended(self, last: Last | None) -> None:
        """The worker has ended the request, maybe after its client left; None: by an error, or since it was killed."""

    def answered(self) -> None:
        """The whole answer was taken."""

    def failed(self, error: GpuxError | None) -> None:
        """The answer was not taken as a whole; None: the client has left."""


class Observer:
    """Receives reports, of models by their names; this one ignores them. Methods return at once."""

    def reported(self, model: str, load: Load) -> None:
        """A worker has sent what it is doing."""

    def watch(self, model: str, request: Any) -> Watch:
        """A request is sent to the worker of a model."""
        return Watch()
