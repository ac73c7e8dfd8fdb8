"""Reduced precisions of a stored float32 variant: which there are, by which recipes, and what suits a device.

:mod:`gpux.quantize.reduction` makes them, with a program of its own process (:mod:`gpux.quantize.program`).
"""

from __future__ import annotations

from gpux.quantize.choose import Choice, choose_precision
from gpux.quantize.recipes import ReductionOptions

__all__ = ["Choice", "ReductionOptions", "choose_precision"]
