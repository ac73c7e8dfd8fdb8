"""Events to which optional parts of gpux subscribe: a model was opened, a pull ended.

Subscribers register under the entry point group ``gpux.subscribers``: a callable that accepts an event and settings.
Exceptions of subscribers are logged and not raised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from gpux.errors import CancelledError, GpuxError
from gpux.model.reference import ModelRef, local_path
from gpux.model.values import Value
from gpux.system.plugins import registered
from gpux.system.settings import Settings

GROUP = "gpux.subscribers"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelOpened(Value):
    """A pipeline has opened a stored model."""

    scheme: str
    id: str
    commit: str | None = None


@dataclass(frozen=True)
class PullEnded(Value):
    """A pull has ended; a cancelled pull publishes no event."""

    scheme: str
    id: str
    error: str | None = None  #: message of the error; None after success


Event = ModelOpened | PullEnded
Subscriber = Callable[[Event, Settings | None], None]


def publish(event: Event, settings: Settings | None = None) -> None:
    """Call every subscriber with an event; never raises.

    Args:
        event: the event.
        settings: the settings in use; default: from the environment.
    """
    for subscriber in _subscribers():
        try:
            subscriber(event, settings)
        except Exception:  # noqa: BLE001 - a failing subscriber must not end a run
            _log.debug("a subscriber failed", exc_info=True)


@contextmanager
def pull_published(ref: ModelRef, settings: Settings | None = None) -> Iterator[None]:
    """Publish the end of the pull in the block; the id of a local model is its absolute path."""
    id = str(local_path(ref.id)) if ref.scheme == "local" else ref.id
    try:
        yield
    except CancelledError:
        raise
    except GpuxError as exc:
        publish(PullEnded(ref.scheme, id, exc.message), settings)
        raise
    publish(PullEnded(ref.scheme, id), settings)


@cache
def _subscribers() -> tuple[Subscriber, ...]:
    return tuple(point.load() for point in registered(GROUP, "subscriber", optional=True).values())
