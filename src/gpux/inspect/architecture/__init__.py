"""The architecture that a ``config.json`` describes: sizes, attention, context, experts, parameter count.

Pure: reads neither network nor model files. ``docs/explanation/parameters.md`` lists the types that have a formula.
"""

from __future__ import annotations

from gpux.inspect.architecture.attention import RopeScaling
from gpux.inspect.architecture.counting import (
    ParameterCount,
    active_parameters_from_name,
    count_from_name,
    count_parameters,
    parameters_from_name,
    parameters_from_tags,
)
from gpux.inspect.architecture.decoders import Experts
from gpux.inspect.architecture.quantization import Quantization
from gpux.inspect.architecture.summary import ArchitectureSummary, CacheShape, summarize

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
