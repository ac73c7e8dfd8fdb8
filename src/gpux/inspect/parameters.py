"""The parameter count of a model from the best source: counts in files, then formula, then tags and name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gpux.inspect.architecture import (
    active_parameters_from_name,
    count_parameters,
    parameters_from_name,
    parameters_from_tags,
)
from gpux.inspect.headers.gguf_summary import GgufSummary
from gpux.inspect.headers.safetensors import SafetensorsSummary
from gpux.model.info import ModelPage
from gpux.model.values import Value

Basis = Literal[
    "safetensors metadata of the Hub",
    "safetensors headers",
    "gguf",
    "gguf metadata of the Hub",
    "config by formula",
    "tags",
    "name",
]
#: Relative difference between formula and count above which a note is added.
TOLERANCE = 0.02
#: Factor between name and count above which a note is added; names are rounded.
_NAMED = 1.5
#: dtypes that may pack several weights into one element
_PACKED = frozenset({"I32", "U32", "U8", "I8"})


@dataclass(frozen=True)
class ParameterFacts(Value):
    """Parameter counts of a model; None if unknown."""

    total: int | None = None
    basis: Basis | None = None
    active: int | None = None  #: per token, of a mixture of experts
    stored: int | None = None  #: values in the files, including buffers, packed weights not unpacked
    formula: int | None = None  #: count by the formula
    dtypes: Mapping[str, int] = field(default_factory=dict)  #: dtype or GGUF type -> stored values
    missing: str | None = None  #: why the total is unknown
    notes: tuple[str, ...] = ()


def parameters_of(
    page: ModelPage,
    config: Mapping[str, Any],
    headers: SafetensorsSummary | None = None,
    gguf: GgufSummary | None = None,
) -> ParameterFacts:
    """The count from the best source: headers, the Hub's metadata, the formula, tags, the name."""
    counted = count_parameters(config)
    found = _counted(page, headers, gguf)
    if found.total is None and counted.total is not None:
        found = replace(found, total=counted.total, basis="config by formula")
    if found.total is None:
        found = _named(page, counted.reason or "")
    active = counted.active if counted.active != counted.total else None
    if counted.total is None and found.total is not None:
        active = active_parameters_from_name(_name(page))
    found = replace(found, formula=counted.total, active=active)
    return replace(found, notes=tuple(_contradictions(page, found, headers, counted.mask_buffers)))


def _counted(page: ModelPage, headers: SafetensorsSummary | None, gguf: GgufSummary | None) -> ParameterFacts:
    if headers is not None:
        stored = sum(headers.stored.values())
        return ParameterFacts(headers.parameters, "safetensors headers", stored=stored, dtypes=headers.stored)
    if gguf is not None and gguf.parameters:
        return ParameterFacts(gguf.parameters, "gguf", stored=gguf.parameters, dtypes=gguf.types)
    if page.dtypes:
        stored = sum(page.dtypes.values())
        total = page.info.parameters or stored
        return ParameterFacts(total, "safetensors metadata of the Hub", stored=stored, dtypes=page.dtypes)
    reported = page.gguf.get("total")
    if isinstance(reported, int) and reported > 0:
        return ParameterFacts(reported, "gguf metadata of the Hub", stored=reported)
    if page.info.parameters:
        return ParameterFacts(page.info.parameters, "safetensors metadata of the Hub", stored=page.info.parameters)
    return ParameterFacts()


def _named(page: ModelPage, why: str) -> ParameterFacts:
    """The count in the tags or the name."""
    if (total := parameters_from_tags(page.info.tags)) is not None:
        return ParameterFacts(total, "tags")
    if (total := parameters_from_name(_name(page))) is not None:
        return ParameterFacts(total, "name")
    return ParameterFacts(missing=f"no headers of weights were read, {why}, and neither tags nor name contain a size")


def _name(page: ModelPage) -> str:
    return page.info.id.rpartition("/")[2]


def _contradictions(
    page: ModelPage, found: ParameterFacts, headers: SafetensorsSummary | None, masks: int
) -> Iterator[str]:
    """Notes on sources that differ by more than rounding."""
    total, formula = found.total or 0, found.formula or 0
    packed = bool(_PACKED & found.dtypes.keys())
    if headers is not None and headers.buffers:
        yield f"{headers.buffers:,} of the {found.stored:,} stored values are buffers and scales, not parameters"
    if formula and packed and total < 0.6 * formula:
        yield f"the weights are packed: {total:,} stored values contain about {formula:,} parameters"
    elif formula and masks and abs(total - formula - masks) <= TOLERANCE * masks:
        yield f"of the {total:,} stored values, {total - formula:,} are causal masks: {formula:,} are parameters"
    elif formula and not packed and found.basis != "gguf" and abs(total - formula) > TOLERANCE * formula:
        more = f"{abs(total - formula) / 1e6:,.2f} M {'more' if total > formula else 'fewer'}"
        yield f"the files contain {total:,} values, {more} than the {formula:,} parameters of the configuration"
    named, best = parameters_from_name(_name(page)), formula if packed and formula else total
    if named and best and found.basis != "name" and not 1 / _NAMED < named / best < _NAMED:
        yield f"the name states {named / 1e9:g} B parameters, but there are {best / 1e9:.3g} B"
