"""dtype and quantization of the stored weights, as the configuration states them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpux.inspect.architecture.fields import Fields, whole
from gpux.model.values import Value


@dataclass(frozen=True)
class Quantization(Value):
    """How the stored weights are quantized."""

    method: str  #: ``quant_method``: ``awq``, ``gptq``, ``bitsandbytes``, ``fp8``, ``mxfp4``, ``compressed-tensors`` …
    bits: int | None  #: per weight
    group_size: int | None  #: weights that share a scale; None: a row, a tensor, or not stated
    form: str | None  #: format of the method: ``nf4``, ``e4m3``, ``gemm``, ``pack-quantized`` …


#: Method -> bits per weight, if the configuration does not state them (transformers' documentation of the methods).
_BITS = {"fp8": 8, "fbgemm_fp8": 8, "mxfp4": 4, "awq": 4, "aqlm": 2, "bitnet": 2, "eetq": 8, "modelopt_fp8": 8}
#: Names of weight types of torchao and others -> bits per weight.
_NAMED = {"int4": 4, "int8": 8, "float8": 8, "int2": 2, "uint4": 4, "nf4": 4, "fp4": 4, "nvfp4": 4, "fp8": 8}


def find_dtype(fields: Fields) -> str | None:
    """The dtype of the weights (``torch_dtype`` or ``dtype``), without ``torch.``."""
    for name in ("torch_dtype", "dtype"):
        stated = fields.given.get(name)
        if isinstance(stated, str) and stated and stated != "auto":
            return stated.removeprefix("torch.")
    return None


def find_quantization(fields: Fields) -> Quantization | None:
    """The quantization of the stored weights; None if they are not quantized."""
    found = fields.mapping("quantization_config", "compression_config")
    if not found:
        return None
    method = _text(found.get("quant_method")) or _by_flags(found)
    if method is None:
        return None
    if method in ("compressed-tensors", "compressed_tensors", "sparseml"):
        return _compressed(found)
    if method.startswith("bitsandbytes"):
        return _bitsandbytes(found)
    bits = _positive(found.get("bits")) or _positive(found.get("w_bit")) or _positive(found.get("nbits"))
    form = _first_text(found, "fmt", "version", "format", "quant_algo", "quant_type", "checkpoint_format", "weights")
    if method == "mxfp4":
        return Quantization(method, 4, 32, form)  # one scale per 32 weights: OCP microscaling formats 1.0
    bits = bits or _BITS.get(method) or _bits_named(form)
    group = _positive(found.get("group_size")) or _positive(found.get("q_group_size")) or _block(found)
    return Quantization(method, bits, group, form)


def _by_flags(found: Mapping[str, Any]) -> str | None:
    return "bitsandbytes" if found.get("load_in_4bit") is True or found.get("load_in_8bit") is True else None


def _bitsandbytes(found: Mapping[str, Any]) -> Quantization:
    if found.get("load_in_4bit") is True:
        form = _text(found.get("bnb_4bit_quant_type")) or "fp4"
        return Quantization("bitsandbytes", 4, 64, form)  # its block size is fixed
    return Quantization("bitsandbytes", 8 if found.get("load_in_8bit") is True else None, None, "int8")


def _compressed(found: Mapping[str, Any]) -> Quantization:
    groups = found.get("config_groups")
    each = [g.get("weights") for g in groups.values() if isinstance(g, Mapping)] if isinstance(groups, Mapping) else []
    weights = next((w for w in each if isinstance(w, Mapping)), {})
    return Quantization(
        "compressed-tensors",
        _positive(weights.get("num_bits")),
        _positive(weights.get("group_size")),
        _text(found.get("format")) or _text(weights.get("type")),
    )


def _block(found: Mapping[str, Any]) -> int | None:
    """Weights in a block that shares a scale (fp8 of DeepSeek)."""
    block = found.get("weight_block_size")
    sides = [_positive(side) for side in block] if isinstance(block, list) and len(block) == 2 else []
    return sides[0] * sides[1] if len(sides) == 2 and sides[0] and sides[1] else None


def _bits_named(form: str | None) -> int | None:
    return next((bits for name, bits in _NAMED.items() if form and name in form.lower()), None)


def _positive(value: object) -> int | None:
    number = whole(value)
    return number if number is not None and 0 < number <= 1 << 20 else None


def _text(value: object) -> str | None:
    return value.lower() if isinstance(value, str) and value else None


def _first_text(found: Mapping[str, Any], *names: str) -> str | None:
    return next((text for name in names if (text := _text(found.get(name)))), None)
