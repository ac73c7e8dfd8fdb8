"""Events that optional parts of gpux follow: a model was opened, a pull ended.

Subscribers register under the entry point group ``gpux.subscribers``: a callable that takes the event and the settings
in use. The parts that publish do not know them, and a subscriber that fails stops nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gpux.errors import CancelledError, GpuxError
from gpux.model.reference import ModelRef
from gpux.model.values import Value
from gpux.system.plugins import registered
from gpux.system.settings import Settings

GROUP = "gpux.subscribers"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelOpened(Value):
    """A stored model was opened to run."""

    scheme: str
    id: str
    commit: str | None = None


@dataclass(frozen=True)
class PullEnded(Value):
    """A pull ended; a pull that was cancelled publishes nothing."""

    scheme: str
    id: str
    error: str | None = None  #: the message of the error that ended it; None: it worked


Event = ModelOpened | PullEnded
Subscriber = Callable[[Event, Settings | None], None]


def publish(event: Event, settings: Settings | None = None) -> None:
    """Hand an event to every subscriber; never fails.

    Args:
        event: what happened.
        settings: those in use; None: the environment's.
    """
    for subscriber in _subscribers():
        try:
            subscriber(event, settings)
        except Exception:  # noqa: BLE001 - a run does not end because an optional part could not follow it
            _log.debug("a subscriber failed", exc_info=True)


@contextmanager
def pull_published(ref: ModelRef, settings: Settings | None = None) -> Iterator[None]:
    """Publish how the pull in the block ends; the id of a local model is its absolute path."""
    id = str(Path(ref.id).expanduser().absolute()) if ref.scheme == "local" else ref.id
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
    return tuple(point.load() for point in registered(GROUP, "subscriber").values())
