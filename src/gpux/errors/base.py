"""The base of every error, and the ones that any part may raise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

_ROOM = __name__.rpartition(".")[0]


class GpuxError(Exception):
    """Base of the tree: ``message`` says what happened to what, ``hint`` what to do next."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init_subclass__(cls) -> None:
        """The code is the class's name: ``ModelNotFoundError`` has ``model_not_found``."""
        if cls.__module__.startswith(f"{_ROOM}."):
            cls.__module__ = _ROOM  # what a traceback shows is what can be imported
        cls.code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__.removesuffix("Error")).lower()

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.hint, self.details))

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON-able values: ``code``, ``message``, ``hint`` and its ``details``."""
        return {"code": self.code, "message": self.message, "hint": self.hint, **_plain(self.details)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GpuxError:
        """The typed error behind :meth:`to_dict`; an unknown code gives a plain :class:`GpuxError`."""
        fields = dict(data)
        kind = error_types().get(fields.pop("code", ""), GpuxError)
        return kind(fields.pop("message", ""), hint=fields.pop("hint", None), **fields)


def _plain(value: Any) -> Any:
    """Paths inside a detail as text, tuples as lists."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _rebuild(kind: type[GpuxError], message: str, hint: str | None, details: dict[str, Any]) -> GpuxError:
    return kind(message, hint=hint, **details)


def error_types() -> dict[str, type[GpuxError]]:
    """Every error type by its ``code``."""
    kinds: list[type[GpuxError]] = [GpuxError]
    for kind in kinds:  # grows while it is walked
        kinds.extend(kind.__subclasses__())
    return {kind.code: kind for kind in kinds}


class UsageError(GpuxError):
    """An argument or option that cannot be meant."""

    exit_code = 2


class InvalidReferenceError(UsageError):
    """A model reference in no accepted form; the message shows the accepted ones."""


class WrongKindError(InvalidReferenceError):
    """It names no model but what ``details["kind"]`` says (``dataset``, ``space`` …), of ``id``, at ``endpoint``."""


class CancelledError(GpuxError):
    """The caller's cancel token was set; what had arrived is kept for the next try."""

    exit_code = 130


class UnsupportedError(GpuxError):
    """gpux cannot run this model, and says why."""

    exit_code = 7


class NoWeightsError(UnsupportedError):
    """The repository holds no weights in a format that gpux reads."""


class UnsupportedArchitectureError(UnsupportedError):
    """No converter knows the model's architecture."""


class UnsupportedTaskError(UnsupportedError):
    """No converter or pipeline for this task, or no task to be found in the model's files."""
