"""Contradictions and invalid values in a configuration."""

from __future__ import annotations

from collections.abc import Iterator

from gpux.inspect.architecture.attention import Heads
from gpux.inspect.architecture.fields import NAMES, Fields, whole

#: Facts whose names are synonyms in every file. Layers and heads are not: one of their names may state those of the
#: encoder, or of a stage.
_SAME = ("hidden", "vocab", "experts", "used_experts", "kv_heads")
_SHOWN = ("hidden", "layers", "heads", "kv_heads", "vocab", "context", "inner", "head", "experts")


def contradictions(fields: Fields, heads: Heads, layers: int | None) -> Iterator[str]:
    """One sentence for each contradiction or invalid value."""
    yield from _unreadable(fields)
    yield from _twice(fields)
    yield from _odd_heads(fields, heads)
    used, experts = fields.count("used_experts"), fields.count("experts")
    if used is not None and experts and used > experts:
        yield f"a token uses {used} experts, but there are {experts}"
    kinds = fields.items("layer_types")
    if kinds and layers is not None and len(kinds) != layers:
        yield f"layer_types has {len(kinds)} entries, but there are {layers} layers"
    yield from _dtypes(fields)


def _unreadable(fields: Fields) -> Iterator[str]:
    for fact in _SHOWN:
        for name in NAMES[fact]:
            value = fields.given.get(name)
            if value is None or (isinstance(value, list) and fact in ("heads", "hidden", "layers", "inner")):
                continue
            number = whole(value)
            if number is None or number < 0:
                yield f"{name} is not a count: {_shown(value)}"


def _twice(fields: Fields) -> Iterator[str]:
    for fact in _SAME:
        stated = {
            name: whole(value) for name, value in fields.candidates(fact) if name[0] != "=" and name != "embed_dim"
        }
        found = {name: number for name, number in stated.items() if number is not None and number > 0}
        if len(set(found.values())) > 1:
            yield " but ".join(f"{name} is {number}" for name, number in found.items())


def _odd_heads(fields: Fields, heads: Heads) -> Iterator[str]:
    hidden = fields.size("hidden")
    if heads.kind == "MLA" or heads.count is None:
        return
    if hidden and fields.size("head") is None and hidden % heads.count:
        yield f"the hidden size {hidden} is not divisible by {heads.count} heads"
    if heads.kv is not None and heads.count % heads.kv:
        yield f"{heads.count} heads are not divisible by {heads.kv} key/value heads"


def _dtypes(fields: Fields) -> Iterator[str]:
    first, second = fields.given.get("torch_dtype"), fields.given.get("dtype")
    if isinstance(first, str) and isinstance(second, str) and first != second:
        yield f"torch_dtype is {first[:40]} but dtype is {second[:40]}"


def _shown(value: object) -> str:
    """A short text for a value; only its type if it may be long (Python refuses to print huge integers)."""
    if isinstance(value, str):
        return repr(value[:40])
    return str(value) if isinstance(value, (bool, float)) else f"a value of type {type(value).__name__}"
