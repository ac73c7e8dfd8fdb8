"""Reduced precisions of a stored float32 variant: fp16, int8, int4, made without the original and measured against it.

A program of its own process (:mod:`gpux.convert.quantizer`) rewrites the graphs; this side chooses the recipe, asks
both variants the same, and refuses what costs more than the precision's limits say.
"""

from __future__ import annotations

from gpux.convert.precision.choosing import Choice, choose_precision
from gpux.convert.precision.recipes import PRECISIONS, ReductionOptions
from gpux.convert.precision.reduction import Reduction, reduce

__all__ = ["PRECISIONS", "Choice", "Reduction", "ReductionOptions", "choose_precision", "reduce"]
