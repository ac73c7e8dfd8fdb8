"""What a model takes of memory, of disk and of a memory's bandwidth: formulas of numbers, each in its docstring.

Pure. All sizes are bytes; each formula is an estimate, within a few per cent for weights and cache.
"""

from __future__ import annotations

from gpux.inspect.architecture import ArchitectureSummary, CacheShape, ParameterCount
from gpux.model.precisions import find_precision

_STORED = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "float8_e4m3fn": 8}
GROUP = 32  #: quantized weights that share a scale of 32 bits
CHUNK = 512  #: tokens of a prompt that a decoder takes in one call


def weight_bytes(parameters: ParameterCount, precision: str, group: int = GROUP) -> int | None:
    """Memory of all weights: ``matrices x bytes + tables x bytes``; None where their number is unknown.

    A quantized weight takes its bits and a share of its group's scale of 32 bits: int4 in groups of 32 is 5 bits.
    Tables (:attr:`ParameterCount.non_embedding` leaves them out) stay in fp32 there.
    """
    if parameters.total is None:
        return None
    row = find_precision(precision)
    bits, table_bits = row.bits, row.activation_bits
    matrices = parameters.total if parameters.non_embedding is None else parameters.non_embedding
    scale = 32 / group if bits < 16 else 0
    return round((matrices * (bits + scale) + (parameters.total - matrices) * table_bits) / 8)


def cache_bytes(shape: CacheShape | None, precision: str, context: int, batch: int) -> int:
    """Memory of what a decoder remembers.

    ``batch x bytes x (width x (full_layers x context + sliding_layers x min(context, window)
    + cross_layers x source) + state)``, with width the numbers of one token and layer: ``2 x kv_heads x head_size``,
    or what latent attention keeps of them once it is unfolded, as exported graphs do. ``source`` is the length of the
    encoder's answer, the context where it is not always the same. 0 for a model that does not decode.
    """
    if shape is None:
        return 0
    seen = shape.sliding_layers * (min(context, shape.window) if shape.window else context)
    source = shape.cross_layers * (shape.cross_length or context)
    numbers = shape.expanded_width * (shape.full_layers * context + seen + source) + shape.state
    return batch * numbers * find_precision(precision).activation_bits // 8


def activation_bytes(summary: ArchitectureSummary, precision: str, context: int, batch: int) -> int:
    """Memory of one call beside weights and cache, roughly: the largest layer's, as they are freed one by one.

    ``batch x bytes x rows x (4 x hidden + 3 x inner + 2 x heads x columns + vocabulary)``. A decoder takes its prompt
    in pieces of at most 512 rows against all columns of the context; an encoder all rows at once.
    """
    rows = min(context, CHUNK) if summary.cache is not None else context
    inner = summary.intermediate_size or 4 * (summary.hidden_size or 0)
    if summary.experts is not None and summary.experts.size:
        inner = max(inner, summary.experts.size * (summary.experts.active or 1))
    vocabulary = summary.vocab_size or 0 if summary.cache is not None else 0
    wide = 4 * (summary.hidden_size or 0) + 3 * inner + 2 * (summary.attention_heads or 0) * context + vocabulary
    return batch * rows * wide * find_precision(precision).activation_bits // 8


def read_bytes(
    summary: ArchitectureSummary, parameters: ParameterCount, precision: str, context: int, batch: int
) -> int | None:
    """Memory read for one step of decoding: the weights that the step uses, and the whole cache.

    Of untied tables of words only the output's is read through. With experts, b sequences touch
    ``all x (1 - (1 - used / count) ** b)`` of them, as if each chose for itself.
    """
    whole = weight_bytes(parameters, precision)
    if whole is None or not parameters.total:
        return None
    used = parameters.total - _untouched(summary, parameters, batch)
    looked_up = (summary.vocab_size or 0) * (summary.hidden_size or 0) if summary.tied_embeddings is False else 0
    read = whole * used / parameters.total - looked_up * find_precision(precision).activation_bits / 8
    return max(1, round(read)) + cache_bytes(summary.cache, precision, context, batch)


def _untouched(summary: ArchitectureSummary, parameters: ParameterCount, batch: int) -> float:
    experts, total, active = summary.experts, parameters.total or 0, parameters.active
    if experts is None or not experts.active or active is None or experts.active >= experts.count:
        return total - (active if active is not None else total)
    missed = 1 - experts.active / experts.count
    return float((total - active) / missed * missed**batch)


def tokens_per_second(
    summary: ArchitectureSummary,
    parameters: ParameterCount,
    precision: str,
    context: int,
    batch: int,
    bandwidth: float | None,
) -> float | None:
    """Speed of decoding: ``batch x bandwidth / bytes read for a step``; an upper bound, as computing takes time too.

    None for a model that does not decode, and without a bandwidth or a size.
    """
    read = read_bytes(summary, parameters, precision, context, batch)
    if summary.cache is None or read is None or not bandwidth:
        return None
    return batch * bandwidth / read


def download_bytes(summary: ArchitectureSummary, parameters: ParameterCount) -> int | None:
    """Size of the weight files: parameters x bytes of the stored dtype; None where either is unknown.

    Quantized files take their bits for matrices (and a scale of 16 bits for each group), 16 for tables.
    """
    if parameters.total is None:
        return None
    packed = summary.quantization
    if packed is not None and packed.bits is not None:
        matrices = parameters.total if parameters.non_embedding is None else parameters.non_embedding
        scale = 16 / packed.group_size if packed.group_size else 0
        return round((matrices * (packed.bits + scale) + (parameters.total - matrices) * 16) / 8)
    bits = _STORED.get(summary.dtype or "")
    return None if bits is None else (parameters.total + parameters.mask_buffers) * bits // 8


def conversion_disk(parameters: ParameterCount, weights: int | None) -> int | None:
    """Disk that a conversion takes at its peak beside the download: the fp32 graph twice (the worker's and the
    store's), and the graph of the wanted precision."""
    if parameters.total is None or weights is None:
        return None
    exported = 4 * parameters.total
    return 2 * exported + (weights if weights != exported else 0)
