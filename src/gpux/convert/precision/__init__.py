"""Reduced precisions of a stored float32 variant: which there are, by which recipes, and what suits a device.

:mod:`gpux.reduction` makes them, with a program of its own process (:mod:`gpux.convert.quantizer`).
"""

from __future__ import annotations

from gpux.convert.precision.choosing import Choice, choose_precision
from gpux.convert.precision.recipes import PRECISIONS, ReductionOptions

__all__ = ["PRECISIONS", "Choice", "ReductionOptions", "choose_precision"]
