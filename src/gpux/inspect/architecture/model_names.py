"""Parameter counts from what people call a model: the last resort, and always called so."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gpux.inspect.architecture.counting import ParameterCount

#: No thousands: ``128k`` in a name is the length of the context.
_UNITS = {"m": 1e6, "b": 1e9, "t": 1e12}
#: ``8x7B``, ``70B``, ``0.5b``, ``350M``, ``1_8b``: a number and its unit between separators. ``A3B`` is what is active.
_SIZE = re.compile(
    r"(?:^|[-_/.:\s(])(?P<active>a)?(?:(?P<times>\d{1,3})x)?(?P<number>\d{1,4}(?:[.]\d{1,4})?)(?P<unit>[mbt])"
    r"(?=$|[-_/.:\s)])",
    re.IGNORECASE,
)
_LARGEST = 1e14


def parameters_from_name(name: str) -> int | None:
    """Parameters that a model's name tells, to the precision of the name: ``Llama-3.1-70B-Instruct`` -> 70e9.

    ``8x7B`` is taken as the product, which is more than a mixture of experts really has, as it shares its attention.
    The part before the slash, the owner's, says nothing. None where the name tells no size; the first of several wins.
    """
    return _first(name, active=False)


def active_parameters_from_name(name: str) -> int | None:
    """Parameters that one token uses, from a name as ``Qwen3-30B-A3B`` -> 3e9; None where it does not tell."""
    return _first(name, active=True)


def parameters_from_tags(tags: Iterable[str]) -> int | None:
    """Parameters that a tag tells, where a tag is nothing but a size: ``7b``, ``params:70B``, ``model_size:1.3B``."""
    for tag in tags:
        last = tag.rpartition(":")[2].strip() if isinstance(tag, str) else ""
        match = _SIZE.fullmatch(last)
        if match and not match["active"] and (found := _value(match)) is not None:
            return found
    return None


def count_from_name(name: str, tags: Iterable[str] = ()) -> ParameterCount:
    """The count that tags tell, else the name, with its basis; unknown where neither does."""
    if (found := parameters_from_tags(tags)) is not None:
        return ParameterCount(found, None, None, "tags")
    if (found := parameters_from_name(name)) is not None:
        return ParameterCount(found, active_parameters_from_name(name), None, "name")
    return ParameterCount(None, None, None, "unknown", "neither the tags nor the name tell a size")


def _first(name: str, *, active: bool) -> int | None:
    own = name.rpartition("/")[2][:500]
    for match in _SIZE.finditer(own):
        if bool(match["active"]) == active and (found := _value(match)) is not None:
            return found
    return None


def _value(match: re.Match[str]) -> int | None:
    value = float(match["number"]) * _UNITS[match["unit"].lower()] * int(match["times"] or 1)
    return round(value) if 0 < value <= _LARGEST else None
