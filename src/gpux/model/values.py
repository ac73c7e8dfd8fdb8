"""The base of the values that travel between the parts of gpux: frozen, picklable, with ``to_dict()``."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any


def to_jsonable(value: Any) -> Any:
    """Nested frozen values as plain JSON-able ones: dataclasses to objects, tuples to lists, paths to text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_jsonable(getattr(value, f.name)) for f in fields(value) if f.repr}
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has neither infinity nor NaN
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_jsonable(item) for item in value]
    return value


class Value:
    """Base of the frozen values: one ``to_dict`` for all."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The value as JSON-able values."""
        found: dict[str, Any] = to_jsonable(self)
        return found
