"""What a pull tries, in which order, and what it leaves aside, each with its reason. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gpux.convert import planner
from gpux.convert.base import Converter, Refusal
from gpux.errors import GpuxError, UsageError
from gpux.inspect.formats import onnx_precisions
from gpux.model.info import ModelInfo
from gpux.model.values import Value
from gpux.model.variant import SHIPPED
from gpux.pull.route import Route, no_weights, routes

#: What makes a reduced precision from a fp32 variant.
QUANTIZER = "quantizer"


@dataclass(frozen=True)
class Way(Value):
    """One way to a variant that was looked at."""

    name: str  #: ``shipped``, the converter, or ``quantizer``
    serves: bool
    reason: str
    route: Route | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Plan(Value):
    """The ways to one variant of one model, in the order in which they are tried."""

    id: str
    commit: str
    task: str
    precision: str
    ways: tuple[Way, ...]
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    refusals: Mapping[str, Refusal] = field(default_factory=dict, repr=False)  #: converter -> why not

    @property
    def serving(self) -> tuple[Way, ...]:
        """The ways that lead there, as far as the files tell."""
        return tuple(way for way in self.ways if way.serves)

    def refused(self, info: ModelInfo) -> GpuxError:
        """The error for a plan without a way that serves."""
        if self.refusals:
            return planner.nobody_takes(self.id, self.config, self.task, self.refusals)
        return no_weights(info, self.precision)


def make_plan(
    info: ModelInfo,
    task: str,
    precision: str,
    config: Callable[[Route], Mapping[str, Any]],
    converters: Mapping[str, Converter],
    *,
    convert: bool = False,
    only: str | None = None,
) -> Plan:
    """The plan for one model.

    Args:
        info: the model's listing.
        task: the Hub's name.
        precision: in its canonical spelling.
        config: reads what tells the architecture of a route's weights; called only where a conversion is considered.
        converters: by name.
        convert: leave the repository's own ONNX aside.
        only: the one converter that may take part.

    Raises:
        UsageError: there is no converter named ``only``.
    """
    if only is not None and only not in converters:
        raise UsageError(f"no converter {only!r}", hint=f"There are: {', '.join(converters)}.")
    ways: list[Way] = []
    refusals: dict[str, Refusal] = {}
    read: Mapping[str, Any] = {}
    found = routes(info, task, precision, convert=convert)
    if not any(route.kind == SHIPPED for route in found):
        ways += _why_not_shipped(info, precision, convert=convert)
    for route in found:
        if route.kind == "convert":
            read = config(route)
            chosen = {only: converters[only]} if only is not None else converters
            for name, refusal in planner.assess(read, task, precision, chosen).items():
                ways.append(_converting(name, refusal, route))
                if refusal is not None:
                    refusals[name] = refusal
        else:
            ways.append(_direct(route))
    return Plan(info.id, info.commit, task, precision, tuple(ways), read, refusals)


def _why_not_shipped(info: ModelInfo, precision: str, *, convert: bool) -> list[Way]:
    has = onnx_precisions(file.path for file in info.files)
    if not has:
        return [Way(SHIPPED, False, "the repository has no ONNX of its own")]
    if convert and precision in has:
        return [Way(SHIPPED, False, "the original weights are asked for")]
    if precision in has:
        return [Way(SHIPPED, False, f"the repository's ONNX in {precision} is no complete model")]
    return [Way(SHIPPED, False, f"the repository has ONNX in {', '.join(has)}, not in {precision}")]


def _converting(name: str, refusal: Refusal | None, route: Route) -> Way:
    if refusal is None:
        return Way(name, True, f"converts {route.weights[0]} and proves the result", route)
    return Way(name, False, f"{name} {refusal}")


def _direct(route: Route) -> Way:
    if route.kind == SHIPPED:
        graphs = ", ".join(graph.graph for graph in route.onnx)
        return Way(SHIPPED, True, f"the repository's own ONNX: {graphs}", route)
    return Way(QUANTIZER, True, f"makes {route.precision} from the fp32 variant and measures the loss", route)
