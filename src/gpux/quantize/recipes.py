"""From a precision and a variant to the recipes that the quantizer is given, the first that should do first."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpux.errors import UnsupportedError, UsageError
from gpux.model.precisions import QUANTIZED
from gpux.model.values import Value
from gpux.model.variant import StoredModel

_CACHE = ("past", "cache")
#: Flags of processors that multiply 8 by 8 bits into 32 without an overflow on the way.
_EXACT_DOTS = ("avx512_vnni", "avx_vnni")


@dataclass(frozen=True)
class ReductionOptions(Value):
    """What a user may ask of a reduction."""

    block: int | None = None  #: values that share a scale, a power of two from 16; by default :func:`default_block`
    symmetric: bool = True  #: int4 without zero points: faster, a little less exact
    head_bits: int | None = None  #: of the layer that gives a decoder's answer, 4 or 8; by default as all others
    embeddings: bool = True  #: reduce large embedding tables too
    column_bits: int | None = None  #: of int8 weights per column, 8 or 7; by default what this processor does exactly
    allow_inexact: bool = False  #: take a result beyond the limits of its precision

    def __post_init__(self) -> None:
        if self.block is not None and (self.block < 16 or self.block & (self.block - 1)):
            raise UsageError(f"a block of {self.block}: it has to be a power of two from 16")
        if self.head_bits not in (None, 4, 8) or self.column_bits not in (None, 7, 8):
            raise UsageError("head_bits is 4 or 8, column_bits 7 or 8")


@dataclass(frozen=True)
class Recipe(Value):
    """One way to a precision."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)  #: for the quantizer


def recipes(model: StoredModel, precision: str, options: ReductionOptions) -> tuple[Recipe, ...]:
    """What to try in turn, each more exact than the one before it.

    Raises:
        UsageError: an unknown precision, or the variant is not float32.
        UnsupportedError: a precision that onnxruntime cannot run.
    """
    if precision == "bf16":
        raise UnsupportedError(
            "bf16 is not made: onnxruntime's CPU has next to no operators in it, and its other providers only some",
            hint="Use --precision fp16.",
        )
    if precision not in QUANTIZED:
        raise UsageError(f"cannot quantize to {precision!r}", hint=f"Choose one of {', '.join(QUANTIZED)}.")
    if model.manifest.precision != "fp32":
        raise UsageError(f"{precision} is made from fp32, and this variant of {model.id} is {model.manifest.precision}")
    if precision == "fp16":
        return (Recipe("fp16", {"kind": "float16"}),)
    block, embeddings = options.block or default_block(model, precision), options.embeddings
    if precision == "int8":
        fast = _blocks(8, 8, block, embeddings=embeddings) if has_cache(model) else _dynamic(options)
        return (fast, _blocks(8, 8, block, embeddings=embeddings, whole=True))
    first = _blocks(4, options.head_bits or 4, block, embeddings=embeddings, symmetric=options.symmetric)
    second = _blocks(4, 8, min(block, 32), embeddings=embeddings, symmetric=False)
    return (first,) if first == second else (first, second)


def default_block(model: StoredModel, precision: str) -> int:
    """64 for int4 decoders, else 32.

    A decoder's speed is that of reading its weights: with blocks of 64 it made a quarter more tokens than with 32,
    and its divergence from float32 grew by a twelfth. The others do not get faster by int4, only smaller.
    """
    return 64 if precision == "int4" and has_cache(model) else 32


def has_cache(model: StoredModel) -> bool:
    """Whether a graph of the variant makes text token by token."""
    return any(spec.name.startswith(_CACHE) for graph in model.manifest.graphs for spec in graph.inputs)


def _dynamic(options: ReductionOptions) -> Recipe:
    bits = options.column_bits or (8 if exact_dots() else 7)
    name = "int8-dynamic-perchannel" if bits == 8 else "int8-dynamic-perchannel-7bit"
    return Recipe(name, {"kind": "dynamic", "bits": bits, "embeddings": options.embeddings})


def _blocks(
    bits: int, head_bits: int, block: int, *, embeddings: bool, symmetric: bool = True, whole: bool = False
) -> Recipe:
    """``whole`` leaves activations in float32, which is slower; else they are rounded to 8 bits by blocks."""
    head = f"-head{head_bits}" if head_bits != bits else ""
    values = {"bits": bits, "head_bits": head_bits, "block": block, "symmetric": symmetric}
    return Recipe(
        f"int{bits}-blocks{block}{'' if symmetric else '-asymmetric'}{head}{'-floats' if whole else ''}",
        {"kind": "weights", "table_bits": 8 if embeddings else 0, "accuracy_level": 0 if whole else 4, **values},
    )


def exact_dots(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str | None = None) -> bool:
    """Whether this processor multiplies 8 by 8 bits exactly.

    x86 without VNNI adds two products into 16 bits, which saturate: weights of 7 bits are safe there
    (onnxruntime's documentation on quantization, "reduce_range"). False where x86 does not tell.
    """
    if (machine or platform.machine()).lower() not in ("x86_64", "amd64", "x86", "i686"):
        return True
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return any(flag in flags.split() for flag in _EXACT_DOTS)
