"""The quantization methods for a variant and a precision, the fastest first."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpux.errors import UnsupportedError, UsageError
from gpux.model.graph_io import is_cache_input
from gpux.model.precisions import QUANTIZED
from gpux.model.values import Value
from gpux.model.variant import StoredModel

#: x86 processor flags of instructions that multiply 8 by 8 bits and add in 32 bits without overflow.
_VNNI = ("avx512_vnni", "avx_vnni")


@dataclass(frozen=True)
class QuantizeOptions(Value):
    """Options of a quantization; the defaults suit the model and this machine's processor.

    Raises:
        UsageError: a value is invalid.
    """

    block: int | None = None  #: values that share a scale, a power of two from 16; default: :func:`default_block`
    symmetric: bool = True  #: int4 without zero points: faster, slightly less exact
    head_bits: int | None = None  #: of a decoder's last layer, 4 or 8; default: as the other layers
    embeddings: bool = True  #: quantize large embedding tables too
    column_bits: int | None = None  #: of int8 weights per column, 7 or 8; default: :func:`exact_dot_products`

    def __post_init__(self) -> None:
        if self.block is not None and (self.block < 16 or self.block & (self.block - 1)):
            raise UsageError(f"block is {self.block}, and must be a power of two from 16")
        if self.head_bits not in (None, 4, 8) or self.column_bits not in (None, 7, 8):
            raise UsageError("head_bits must be 4 or 8, column_bits 7 or 8")


@dataclass(frozen=True)
class Method(Value):
    """One quantization method."""

    name: str  #: becomes part of the variant's recipe
    parameters: Mapping[str, Any] = field(default_factory=dict)  #: see ``gpux.quantize.program.quantize``


def methods(model: StoredModel, precision: str, options: QuantizeOptions) -> tuple[Method, ...]:
    """The methods to try in order, each more exact and slower than the one before.

    Raises:
        UsageError: an unknown precision, or the variant is not float32.
        UnsupportedError: a precision that onnxruntime cannot run.
    """
    if precision == "bf16":
        raise UnsupportedError(
            "gpux does not convert to bf16: onnxruntime supports few operators in bf16, on the CPU hardly any",
            hint="Use --precision fp16.",
        )
    if precision not in QUANTIZED:
        raise UsageError(f"cannot quantize to {precision!r}", hint=f"Choose one of {', '.join(QUANTIZED)}.")
    if model.manifest.precision != "fp32":
        raise UsageError(
            f"{precision} is quantized from fp32, and this variant of {model.id} is {model.manifest.precision}",
            hint=f"Pull the model with `gpux pull {model.id} --precision fp32` first.",
        )
    if precision == "fp16":
        return (Method("fp16", {"kind": "float16"}),)
    block, embeddings = options.block or default_block(model, precision), options.embeddings
    if precision == "int8":
        fast = _blocks(8, 8, block, embeddings=embeddings) if has_cache(model) else _dynamic(options)
        return (fast, _blocks(8, 8, block, embeddings=embeddings, float_activations=True))
    first = _blocks(4, options.head_bits or 4, block, embeddings=embeddings, symmetric=options.symmetric)
    second = _blocks(4, 8, min(block, 32), embeddings=embeddings, symmetric=False)
    return (first,) if first == second else (first, second)


def default_block(model: StoredModel, precision: str) -> int:
    """64 for int4 decoders, else 32.

    A decoder's speed is limited by reading its weights: blocks of 64 generate a quarter more tokens per second than
    blocks of 32, and diverge from float32 by a twelfth more. Other models become smaller by int4, but not faster.
    """
    return 64 if precision == "int4" and has_cache(model) else 32


def has_cache(model: StoredModel) -> bool:
    """Whether a graph of the variant has a KV cache, as those that generate text token by token."""
    return any(is_cache_input(spec.name) for graph in model.manifest.graphs for spec in graph.inputs)


def _dynamic(options: QuantizeOptions) -> Method:
    bits = options.column_bits or (8 if exact_dot_products() else 7)
    name = "int8-dynamic-perchannel" if bits == 8 else "int8-dynamic-perchannel-7bit"
    return Method(name, {"kind": "dynamic", "bits": bits, "embeddings": options.embeddings})


def _blocks(
    bits: int, head_bits: int, block: int, *, embeddings: bool, symmetric: bool = True, float_activations: bool = False
) -> Method:
    """Weights in blocks; activations are rounded to 8 bits by blocks, or stay in float32, which is slower."""
    suffixes = (
        "" if symmetric else "-asymmetric",
        f"-head{head_bits}" if head_bits != bits else "",
        "-floats" if float_activations else "",
    )
    parameters = {
        "kind": "blocks",
        "bits": bits,
        "head_bits": head_bits,
        "embedding_bits": 8 if embeddings else 0,
        "block": block,
        "symmetric": symmetric,
        "accuracy_level": 0 if float_activations else 4,
    }
    return Method(f"int{bits}-blocks{block}{''.join(suffixes)}", parameters)


def exact_dot_products(cpuinfo: Path = Path("/proc/cpuinfo"), machine: str | None = None) -> bool:
    """Whether this processor multiplies vectors of 8-bit integers exactly.

    x86 without VNNI adds two products in 16 bits, which saturate: there weights of 7 bits are safe (onnxruntime's
    documentation on quantization, ``reduce_range``). False on x86 without a readable ``/proc/cpuinfo``.
    """
    if (machine or platform.machine()).lower() not in ("x86_64", "amd64", "x86", "i686"):
        return True
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return any(flag in flags.split() for flag in _VNNI)
