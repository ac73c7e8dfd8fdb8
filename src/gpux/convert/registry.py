"""The converters by name: everything in the entry point group ``gpux.converters``, gpux's own among them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint

from gpux.convert.base import Converter
from gpux.errors import UsageError
from gpux.system.plugins import registered
from gpux.system.settings import Settings

GROUP = "gpux.converters"
#: gpux's own, the one that takes most models first; measured preferences stand above this.
OWN = ("optimum", "mobius")


def converters(settings: Settings, points: Iterable[EntryPoint] | None = None) -> dict[str, Converter]:
    """Every registered converter, made with the settings, by name; gpux's own first, the others by the alphabet.

    Args:
        settings: what each of them is made with.
        points: the entry points; default: those of the installed packages.

    Raises:
        UsageError: two packages register the same name, or something that is no converter.
    """
    ordered = sorted(registered(GROUP, "converter", points).values(), key=_rank)
    return {point.name: _make(point, settings) for point in ordered}


def _rank(point: EntryPoint) -> tuple[int, str]:
    own = point.name in OWN and point.value.startswith("gpux.")
    return (OWN.index(point.name) if own else len(OWN), point.name)


def _make(point: EntryPoint, settings: Settings) -> Converter:
    made = point.load()(settings)
    if not isinstance(made, Converter):
        raise UsageError(f"the entry point {point.name!r} of {GROUP} is {point.value}, which is no Converter")
    return made
