"""Inputs that are objects with named texts, such as ``{"query": …, "documents": […]}``, checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gpux.errors import InputError
from gpux.pipelines.text.base import as_texts


def as_objects(inputs: Any, example: str) -> list[Mapping[str, Any]]:
    """Objects from one object or several; each may be given as JSON, as on the command line.

    Args:
        inputs: a mapping, its JSON, or an iterable of them.
        example: an object of the expected form, for the hint of an error.

    Raises:
        InputError: an input is not an object; ``index`` is its place.
    """
    if isinstance(inputs, (Mapping, str)):
        inputs = [inputs]
    if isinstance(inputs, bytes) or not isinstance(inputs, Iterable):
        raise InputError(f"an object is expected, and {type(inputs).__name__} was given", hint=f"Give {example}.")
    return [_object(item, index, example) for index, item in enumerate(inputs)]


def _object(item: Any, index: int, example: str) -> Mapping[str, Any]:
    given = type(item).__name__
    if isinstance(item, str):
        try:
            item = json.loads(item)
        except ValueError:
            given = "a text that is not JSON"
    if not isinstance(item, Mapping):
        raise InputError(f"input {index} is {given}, not an object", hint=f"Give {example}.", index=index)
    return item


def text_of(item: Mapping[str, Any], name: str, index: int, example: str) -> str:
    """The text of an object under a name.

    Raises:
        InputError: it has no such text.
    """
    found = item.get(name)
    if not isinstance(found, str):
        has = f"{name!r} of the type {type(found).__name__}" if name in item else f"no {name!r}"
        raise InputError(f"input {index} has {has}, not a text", hint=f"Give {example}.", index=index)
    return found


def texts_of(item: Mapping[str, Any], names: Sequence[str], index: int, example: str) -> list[str]:
    """The texts of an object under the first of some names that it has; one text stands for a list of it.

    Raises:
        InputError: it has no such list, or something in it is not a text.
    """
    name = next((name for name in names if name in item), names[0])
    found = item.get(name)
    if not isinstance(found, (str, list, tuple)):
        has = f"{name!r} of the type {type(found).__name__}" if name in item else f"no {name!r}"
        raise InputError(f"input {index} has {has}, not a list of texts", hint=f"Give {example}.", index=index)
    try:
        return as_texts(found, name.removesuffix("s"))
    except InputError as exc:
        raise InputError(f"input {index}: {exc.message}", hint=exc.hint, index=index) from exc


def check_keys(item: Mapping[str, Any], known: Sequence[str], index: int, example: str) -> None:
    """Refuse an object with other keys, which may be misspelt.

    Raises:
        InputError: with the unknown keys.
    """
    unknown = [str(key) for key in item if key not in known]
    if unknown:
        raise InputError(
            f"input {index} has the unknown keys {', '.join(unknown)}", hint=f"Give {example}.", index=index
        )
