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
#: Types whose older files hold a causal mask of context x context for each layer beside the parameters.
_MASKED = frozenset({"gpt2", "gpt_neo", "gpt_neox"})


@dataclass(frozen=True)
class ParameterCount(Value):
    """Parameters of a model, each tied one once; None for what is not known."""

    total: int | None
    active: int | None  #: that one token passes through: all, or all but the experts that it does not use
    non_embedding: int | None  #: without tables of tokens, positions and token types, and without output words
    basis: str  #: where the numbers come from: ``config by formula``, ``name``, ``tags`` … or ``unknown``
    reason: str | None = None  #: why there are none
    mask_buffers: int = 0  #: further numbers in older weight files: causal masks, no parameters


def count_parameters(config: Mapping[str, Any]) -> ParameterCount:
    """Parameters of the class that the configuration names, by the formula of its type.

    Values that the file leaves out are those that transformers assumes for the type. Never raises for what a
    configuration holds: without a formula, or without a size that it needs, the numbers are None and ``reason`` tells.
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
        return _unknown("the sizes in the configuration belong to no model")
    active, rest = found.total - found.inactive, found.total - found.embedding
    return ParameterCount(found.total, active, rest, FORMULA, mask_buffers=_masks(fields))


def _unknown(reason: str) -> ParameterCount:
    return ParameterCount(None, None, None, UNKNOWN, reason)


def _no_formula(fields: Fields) -> str:
    if fields.model_type is None:
        return "the configuration names no model_type"
    return f"no formula for the model type {fields.model_type}"


def _masks(fields: Fields) -> int:
    if fields.model_type not in _MASKED:
        return 0
    return (fields.size("layers") or 0) * (fields.size("context") or 0) ** 2


#: No thousands: ``128k`` in a name is the length of the context.
_UNITS = {"m": 1e6, "b": 1e9, "t": 1e12}
#: ``8x7B``, ``70B``, ``0.5b``, ``350M``, ``1_8b``: a number and its unit between separators. ``A3B`` is what is active.
_SIZE = re.compile(
    r"(?:^|[-_/.:\s(])(?P<active>a)?(?:(?P<times>\d{1,3})x)?(?P<number>\d{1,4}(?:[.]\d{1,4})?)(?P<unit>[mbt])"
    r"(?=$|[-_/.:\s)])",
    re.IGNORECASE,
)
_LARGEST = 1e14


def parameters_from_name(name: str) -> int | None:
    """Parameters that a model's name tells, to the precision of the name: ``Llama-3.1-70B-Instruct`` -> 70e9.

    ``8x7B`` is taken as the product, which is more than a mixture of experts really has, as it shares its attention.
    The part before the slash, the owner's, says nothing. None where the name tells no size; the first of several wins.
    """
    return _first(name, active=False)


def active_parameters_from_name(name: str) -> int | None:
    """Parameters that one token uses, from a name as ``Qwen3-30B-A3B`` -> 3e9; None where it does not tell."""
    return _first(name, active=True)


def parameters_from_tags(tags: Iterable[str]) -> int | None:
    """Parameters that a tag tells, where a tag is nothing but a size: ``7b``, ``params:70B``, ``model_size:1.3B``."""
    for tag in tags:
        last = tag.rpartition(":")[2].strip() if isinstance(tag, str) else ""
        match = _SIZE.fullmatch(last)
        if match and not match["active"] and (found := _value(match)) is not None:
            return found
    return None


def count_from_name(name: str, tags: Iterable[str] = ()) -> ParameterCount:
    """The count that tags tell, else the name, with its basis; unknown where neither does."""
    if (found := parameters_from_tags(tags)) is not None:
        return ParameterCount(found, None, None, "tags")
    if (found := parameters_from_name(name)) is not None:
        return ParameterCount(found, active_parameters_from_name(name), None, "name")
    return ParameterCount(None, None, None, "unknown", "neither the tags nor the name tell a size")


def _first(name: str, *, active: bool) -> int | None:
    own = name.rpartition("/")[2][:500]
    for match in _SIZE.finditer(own):
        if bool(match["active"]) == active and (found := _value(match)) is not None:
            return found
    return None


def _value(match: re.Match[str]) -> int | None:
    value = float(match["number"]) * _UNITS[match["unit"].lower()] * int(match["times"] or 1)
    return round(value) if 0 < value <= _LARGEST else None
