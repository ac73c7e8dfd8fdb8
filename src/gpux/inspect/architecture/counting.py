"""How many parameters a model has: by a formula from its configuration, else by its tags or name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gpux.inspect.architecture.decoders import FORMS, count_decoder, count_recurrent
from gpux.inspect.architecture.encoders import AUDIO, ENCODERS, VISION
from gpux.inspect.architecture.fields import Fields, MissingFieldError, NoFormulaError
from gpux.inspect.architecture.layers import Parameters
from gpux.inspect.architecture.multimodal import MULTIMODAL, PARTS
from gpux.inspect.architecture.seq2seq import ENCODER_DECODERS
from gpux.model.values import Value

FORMULA, UNKNOWN = "config by formula", "unknown"

#: ``model_type`` -> formula.
FORMULAS: dict[str, Callable[[Fields], Parameters]] = {
    **dict.fromkeys(FORMS, count_decoder),
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba"), count_recurrent),
    **ENCODERS,
    **ENCODER_DECODERS,
    **VISION,
    **AUDIO,
    **MULTIMODAL,
    **PARTS,
}
#: Types whose older weight files store a causal mask of ``[context, context]`` for each layer.
_MASKED = frozenset({"gpt2", "gpt_neo", "gpt_neox"})


@dataclass(frozen=True)
class ParameterCount(Value):
    """Parameter counts of a model, tied parameters counted once; None if unknown."""

    total: int | None
    active: int | None  #: used by one token: all, or all but the experts that it is not sent to
    non_embedding: int | None  #: without tables of tokens, positions and token types, and without the output matrix
    basis: str  #: source: ``config by formula``, ``name``, ``tags`` … or ``unknown``
    reason: str | None = None  #: why the counts are unknown
    mask_buffers: int = 0  #: values of causal masks, which older weight files also store


def count_parameters(config: Mapping[str, Any]) -> ParameterCount:
    """Count the parameters of the class in ``architectures`` by the formula of the model type.

    Omitted values are the defaults of transformers for the type. Never raises for any configuration: without a formula,
    or without a size that it needs, the counts are None and ``reason`` states why.
    """
    fields = Fields(config)
    formula = FORMULAS.get(fields.model_type or "")
    if formula is None:
        return _unknown(_no_formula(fields))
    try:
        found = formula(fields)
    except MissingFieldError as exc:
        return _unknown(f"the configuration lacks {exc.args[0]}")
    except NoFormulaError as exc:
        return _unknown(f"no formula for {exc.args[0]}")
    if not 0 < found.total < 1 << 60:
        return _unknown("the sizes in the configuration are implausible")
    active, rest = found.total - found.inactive, found.total - found.embedding
    return ParameterCount(found.total, active, rest, FORMULA, mask_buffers=_masks(fields))


def _unknown(reason: str) -> ParameterCount:
    return ParameterCount(None, None, None, UNKNOWN, reason)


def _no_formula(fields: Fields) -> str:
    if fields.model_type is None:
        return "the configuration has no model_type"
    return f"no formula for the model type {fields.model_type}"


def _masks(fields: Fields) -> int:
    if fields.model_type not in _MASKED:
        return 0
    return (fields.size("layers") or 0) * (fields.size("context") or 0) ** 2


#: ``k`` is missing: ``128k`` in a name is the context length.
_UNITS = {"m": 1e6, "b": 1e9, "t": 1e12}
#: ``8x7B``, ``70B``, ``0.5b``, ``350M``, ``1_8b``: a number with a unit between separators. ``A3B``: active parameters.
_SIZE = re.compile(
    r"(?:^|[-_/.:\s(])(?P<active>a)?(?:(?P<times>\d{1,3})x)?(?P<number>\d{1,4}(?:[.]\d{1,4})?)(?P<unit>[mbt])"
    r"(?=$|[-_/.:\s)])",
    re.IGNORECASE,
)
_LARGEST = 1e14


def parameters_from_name(name: str) -> int | None:
    """The parameter count in a model's name, rounded as the name is: ``Llama-3.1-70B-Instruct`` -> 70e9.

    ``8x7B`` is read as the product, which exceeds the real count, as the experts share the attention layers. The owner
    before the slash is ignored. The first of several sizes is used; None if the name has no size.
    """
    return _first(name, active=False)


def active_parameters_from_name(name: str) -> int | None:
    """The active parameter count in a name such as ``Qwen3-30B-A3B`` -> 3e9; None if the name has none."""
    return _first(name, active=True)


def parameters_from_tags(tags: Iterable[str]) -> int | None:
    """The parameter count in a tag that is only a size: ``7b``, ``params:70B``, ``model_size:1.3B``."""
    for tag in tags:
        last = tag.rpartition(":")[2].strip() if isinstance(tag, str) else ""
        match = _SIZE.fullmatch(last)
        if match and not match["active"] and (found := _value(match)) is not None:
            return found
    return None


def count_from_name(name: str, tags: Iterable[str] = ()) -> ParameterCount:
    """The parameter count in the tags, else in the name, with its basis."""
    if (found := parameters_from_tags(tags)) is not None:
        return ParameterCount(found, None, None, "tags")
    if (found := parameters_from_name(name)) is not None:
        return ParameterCount(found, active_parameters_from_name(name), None, "name")
    return ParameterCount(None, None, None, "unknown", "neither tags nor name contain a size")


def _first(name: str, *, active: bool) -> int | None:
    own = name.rpartition("/")[2][:500]
    for match in _SIZE.finditer(own):
        if bool(match["active"]) == active and (found := _value(match)) is not None:
            return found
    return None


def _value(match: re.Match[str]) -> int | None:
    value = float(match["number"]) * _UNITS[match["unit"].lower()] * int(match["times"] or 1)
    return round(value) if 0 < value <= _LARGEST else None
