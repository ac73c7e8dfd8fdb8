"""What a model is, from its ``config.json`` alone: sizes, attention, context, experts, and how many parameters.

Pure: nothing here reads the network, a model's files or the clock. ``docs/explanation/parameters.md`` tells where the
formulas hold.
"""

from __future__ import annotations

from gpux.inspect.architecture.counting import ParameterCount, count_parameters
from gpux.inspect.architecture.experts import Experts
from gpux.inspect.architecture.model_names import (
    active_parameters_from_name,
    count_from_name,
    parameters_from_name,
    parameters_from_tags,
)
from gpux.inspect.architecture.shapes import ArchitectureSummary, CacheShape, Quantization, RopeScaling
from gpux.inspect.architecture.summary import summarize

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
