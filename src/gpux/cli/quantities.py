"""Values of options that are sizes or durations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

from gpux.errors import UsageError
from gpux.model.units import parse_duration
from gpux.system.settings import parse_bytes

if TYPE_CHECKING:  # generic in newer versions of click only
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType


class Size(_Type):
    """Bytes: ``4GiB``, ``800MB``, ``500000000``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See :func:`gpux.system.settings.parse_bytes`."""
        if isinstance(value, int):
            return value
        try:
            return parse_bytes("size", str(value))
        except UsageError:
            self.fail(f"{value!r} is not a size, such as 4GiB or 800MB", param, ctx)


class Duration(_Type):
    """Seconds: ``90s``, ``5m``, ``1h30m``; infinity for ``-1`` and ``never`` where the option has a meaning for it."""

    name = "duration"

    def __init__(self, *, never: bool = False) -> None:
        self._never = never

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See :func:`gpux.model.units.parse_duration`."""
        try:
            seconds = value if isinstance(value, float) else parse_duration(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        if math.isinf(seconds) and not self._never:
            self.fail(f"{value!r} is not a duration, such as 90s or 5m", param, ctx)
        return seconds
