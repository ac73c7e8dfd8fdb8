"""How many parameters a model has, and by which of several sources: those that count come before those that compute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gpux.inspect.headers.gguf_summary import GgufSummary
from gpux.inspect.headers.safetensors import SafetensorsSummary
from gpux.model.page import ModelPage
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
#: A formula and a count that differ by more than this part of the count tell of something.
TOLERANCE = 0.02
#: … and a name, which is rounded, by more than this factor.
_NAMED = 1.5
#: dtypes that hold several weights in an element
_PACKED = frozenset({"I32", "U32", "U8", "I8"})


@dataclass(frozen=True)
class ParameterFacts(Value):
    """A model's size; None is what nothing tells."""

    total: int | None = None
    basis: Basis | None = None
    active: int | None = None  #: that take part in one token, where the model has experts
    stored: int | None = None  #: values in the files, buffers and packed ones as they are stored
    formula: int | None = None  #: what the configuration gives
    dtypes: Mapping[str, int] = field(default_factory=dict)  #: dtype or GGUF type -> stored values
    missing: str | None = None  #: why the total is not known
    notes: tuple[str, ...] = ()


def parameters_of(
    page: ModelPage,
    config: Mapping[str, Any],
    headers: SafetensorsSummary | None = None,
    gguf: GgufSummary | None = None,
) -> ParameterFacts:
    """The best of what is known: headers, what the Hub read of them, the formula, tags, the name."""
    from gpux.inspect.architecture import active_parameters_from_name, count_parameters

    counted = count_parameters(config)
    found = _counted(page, headers, gguf)
    if found.total is None and counted.total is not None:
        found = replace(found, total=counted.total, basis="config by formula")
    if found.total is None:
        found = _told(page, counted.reason or "")
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
    told = page.gguf.get("total")
    if isinstance(told, int) and told > 0:
        return ParameterFacts(told, "gguf metadata of the Hub", stored=told)
    if page.info.parameters:
        return ParameterFacts(page.info.parameters, "safetensors metadata of the Hub", stored=page.info.parameters)
    return ParameterFacts()


def _told(page: ModelPage, why: str) -> ParameterFacts:
    """By what people wrote."""
    from gpux.inspect.architecture import parameters_from_name, parameters_from_tags

    if (total := parameters_from_tags(page.info.tags)) is not None:
        return ParameterFacts(total, "tags")
    if (total := parameters_from_name(_name(page))) is not None:
        return ParameterFacts(total, "name")
    return ParameterFacts(missing=f"no headers of weights were read, {why}, and neither tags nor name tell")


def _name(page: ModelPage) -> str:
    return page.info.id.rpartition("/")[2]


def _contradictions(
    page: ModelPage, found: ParameterFacts, headers: SafetensorsSummary | None, masks: int
) -> Iterator[str]:
    """What the sources say of one another, where they differ by more than rounding."""
    from gpux.inspect.architecture import parameters_from_name

    total, formula = found.total or 0, found.formula or 0
    packed = bool(_PACKED & found.dtypes.keys())
    if headers is not None and headers.buffers:
        yield f"{headers.buffers:,} of the {found.stored:,} stored values are buffers and scales, no parameters"
    if formula and packed and total < 0.6 * formula:
        yield f"the weights are packed: {total:,} stored values stand for about {formula:,} parameters"
    elif formula and masks and abs(total - formula - masks) <= TOLERANCE * masks:
        yield f"of the {total:,} stored values, {total - formula:,} are causal masks: {formula:,} are parameters"
    elif formula and not packed and found.basis != "gguf" and abs(total - formula) > TOLERANCE * formula:
        more = f"{abs(total - formula) / 1e6:,.2f} M {'more' if total > formula else 'fewer'}"
        yield f"the files hold {total:,} values, {more} than the {formula:,} parameters of the configuration"
    named, best = parameters_from_name(_name(page)), formula if packed and formula else total
    if named and best and found.basis != "name" and not 1 / _NAMED < named / best < _NAMED:
        yield f"the name says {named / 1e9:g} B parameters, and there are {best / 1e9:.3g} B"
