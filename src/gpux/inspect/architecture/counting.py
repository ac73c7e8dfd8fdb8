"""How many parameters a model has, from its configuration alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpux.inspect.architecture.audio import AUDIO
from gpux.inspect.architecture.decoder_forms import FORMS
from gpux.inspect.architecture.decoders import count_decoder, count_recurrent
from gpux.inspect.architecture.encoders import ENCODERS
from gpux.inspect.architecture.fields import Fields, MissingFieldError, NoFormulaError
from gpux.inspect.architecture.multimodal import MULTIMODAL, PARTS
from gpux.inspect.architecture.seq2seq import ENCODER_DECODERS
from gpux.inspect.architecture.tally import Tally
from gpux.inspect.architecture.vision import VISION
from gpux.model.values import Value

FORMULA, UNKNOWN = "config by formula", "unknown"

#: ``model_type`` -> formula.
FORMULAS: dict[str, Callable[[Fields], Tally]] = {
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
    active, rest = found.total - found.idle, found.total - found.tables
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
