"""Progress events: plain frozen values that a long call hands to a callback. Nothing here prints.

A call is silent unless it is given ``progress=``. The terminal renderer is :mod:`gpux.progress_display`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage of a pull begins: ``resolve``, ``download``, ``convert``, ``prove``, ``store`` …"""

    kind: ClassVar[str] = "stage_started"
    stage: str
    message: str


@dataclass(frozen=True, slots=True)
class StageFinished:
    """A stage ended well; ``message`` is what it found, in a few words."""

    kind: ClassVar[str] = "stage_finished"
    stage: str
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class BytesAdvanced:
    """``done`` of ``total`` bytes of a stage have arrived (``total`` 0: not known); ``file`` is the current one."""

    kind: ClassVar[str] = "bytes_advanced"
    stage: str
    done: int
    total: int
    file: str = ""


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that the user should know and that stops nothing."""

    kind: ClassVar[str] = "warned"
    message: str


Event = StageStarted | StageFinished | BytesAdvanced | Warned
ProgressCallback = Callable[[Event], None]


def silent(event: Event) -> None:
    """The default callback: says nothing."""


def event_to_dict(event: Event) -> dict[str, Any]:
    """The event as JSON-able values, with its ``kind``."""
    return {"kind": event.kind, **asdict(event)}
