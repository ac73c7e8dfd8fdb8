"""What a model is, from its ``config.json`` alone: sizes, attention, context, experts, and how many parameters.

Pure: nothing here reads the network, a model's files or the clock. ``docs/explanation/parameters.md`` tells where the
formulas hold.
"""

from __future__ import annotations

from gpux.architecture.counting import ParameterCount, count_parameters
from gpux.architecture.experts import Experts
from gpux.architecture.model_names import (
    active_parameters_from_name,
    count_from_name,
    parameters_from_name,
    parameters_from_tags,
)
from gpux.architecture.shapes import ArchitectureSummary, CacheShape, Quantization, RopeScaling
from gpux.architecture.summary import summarize

__all__ = [
    "ArchitectureSummary",
    "CacheShape",
    "Experts",
    "ParameterCount",
    "Quantization",
    "RopeScaling",
    "active_parameters_from_name",
    "count_from_name",
    "count_parameters",
    "parameters_from_name",
    "parameters_from_tags",
    "summarize",
]
