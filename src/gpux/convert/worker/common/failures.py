"""From an exception to the typed failure that the parent raises. By type, never by message."""

from __future__ import annotations

import errno
import pickle
import sys
from typing import Any

from gpux.convert.worker.common.protocol import Refused


def describe(exc: BaseException) -> dict[str, Any]:
    """``code``, ``message``, ``hint`` and ``cause`` of a ``failure`` event."""
    if isinstance(exc, Refused):
        return {"code": exc.code, "message": exc.message, "hint": exc.hint, "cause": _line(exc.__cause__)}
    code, hint = _classify(exc)
    return {"code": code, "message": _line(exc), "hint": hint, "cause": _line(exc.__cause__)}


def _classify(exc: BaseException) -> tuple[str, str | None]:
    if isinstance(exc, MemoryError):
        return "out_of_memory", "Memory ran out: free some, or convert on a larger machine."
    if isinstance(exc, OSError) and exc.errno == errno.ENOSPC:
        return "disk_full", None
    if isinstance(exc, ImportError):
        return "toolchain", "Install the toolchain again: `gpux toolchain list` names it."
    if isinstance(exc, (_safetensors_error(), pickle.UnpicklingError)):
        return "corrupt_file", "The weights cannot be read: pull the model again with `gpux pull --force`."
    return "conversion", None


def _safetensors_error() -> type[BaseException]:
    """The type, where the library was imported; else one that nothing is an instance of."""
    module = sys.modules.get("safetensors")
    found: type[BaseException] = getattr(module, "SafetensorError", _Never)
    return found


class _Never(BaseException):
    pass


def _line(exc: BaseException | None) -> str | None:
    """Type and message on one line, as the last line of a traceback has them."""
    if exc is None:
        return None
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text[:1000]}" if text else type(exc).__name__
