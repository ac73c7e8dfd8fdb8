"""The base of the values that gpux returns and stores: frozen, picklable, with ``to_dict()``."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")


def to_jsonable(value: Any) -> Any:
    """Nested frozen values as JSON-able builtins: dataclasses to objects, tuples to lists, paths to text.

    Not ``msgspec.to_builtins``, which keeps infinity and NaN, and fields declared with ``repr=False``.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_jsonable(getattr(value, f.name)) for f in fields(value) if f.repr}
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has neither infinity nor NaN
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (PurePath, str)):
        return str(value)  # of subclasses of str too, which YAML cannot represent
    if isinstance(value, dict):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_jsonable(item) for item in value]
    return value


def from_builtins(kind: type[_T], data: Any) -> _T:
    """The inverse of ``to_dict()``, with every type checked; unknown keys, of newer versions, are ignored.

    Raises:
        ValueError: a field is missing or has another type; the message names the field.
    """
    try:
        return msgspec.convert(data, kind, dec_hook=_subclass_of_str)
    except msgspec.ValidationError as exc:
        raise ValueError(str(exc)) from exc


def _subclass_of_str(kind: type[Any], data: Any) -> Any:
    if not issubclass(kind, str):
        raise NotImplementedError(kind)
    if not isinstance(data, str):
        raise TypeError(f"Expected `str`, got `{type(data).__name__}`")
    return kind(data)


class Value:
    """Base class of frozen values, with ``to_dict``."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values; fields declared with ``repr=False``, such as tokens, are left out."""
        found: dict[str, Any] = to_jsonable(self)
        return found
