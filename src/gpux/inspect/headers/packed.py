"""Which stored tensors are weights, and how many weights one stored element holds.

Names are those that the libraries write: GPTQ and AWQ (``qweight``, ``qzeros``, ``scales``, ``g_idx``; 32-bit words of
4 or 8 bits), bitsandbytes 4 bits (``weight`` of bytes beside ``weight.absmax``, ``weight.quant_state.*``), mxfp4 of
gpt-oss (``*_blocks`` beside ``*_scales``), compressed-tensors (``weight_packed``, ``weight_scale``, ``weight_shape``),
fp8 (``weight_scale_inv``, ``weight_scale``, ``input_scale``). Buffers are what ``register_buffer`` makes.
"""

from __future__ import annotations

import re
from collections.abc import Container

_WORD = 32  #: bits of the words that GPTQ, AWQ and compressed-tensors pack into
_SCALES = re.compile(
    r"\.(qzeros|scales|g_idx|weight_scale(_inv|_2)?|weight_zero_point|weight_shape|weight_g_idx|input_scale|output_scale"
    r"|input_zero_point|[kv]_scale|SCB|weight_format)$|\.weight\.(absmax|quant_map|nested_absmax|nested_quant_map"
    r"|quant_state\..*)$"
)
_BUFFERS = re.compile(
    r"(^|\.)(masked_bias|position_ids|inv_freq|num_batches_tracked|running_mean|running_var|relative_position_index"
    r"|attn_mask|causal_mask|token_type_ids)$"
)
_MASK = re.compile(r"(^|\.)(attn|attention)\.bias$")


def is_buffer(name: str, shape: tuple[int, ...], names: Container[str]) -> bool:
    """True for what no training step changes: causal masks, positions, statistics, and the scales of packed weights.

    GPT-2's and GPT-NeoX's ``attn.bias`` is a mask of shape ``[1, 1, n, n]``; a bias has one dimension.
    """
    if _SCALES.search(name) or _BUFFERS.search(name):
        return True
    if _MASK.search(name) and len(shape) == 4 and shape[:2] == (1, 1):
        return True
    return name.endswith("_scales") and f"{name.removesuffix('_scales')}_blocks" in names


def unpacked(name: str, dtype: str, elements: int, names: Container[str], bits: int | None) -> int:
    """How many weights ``elements`` stored ones are; ``bits`` of a weight, 4 where nothing tells."""
    if name.endswith((".qweight", ".weight_packed")) and dtype in ("I32", "U32"):
        return elements * _WORD // (bits or 4)
    if dtype == "U8" and (name.endswith("_blocks") or f"{name}.absmax" in names):
        return elements * 2
    return elements
