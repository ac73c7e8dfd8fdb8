"""Estimates whether a model fits a machine, and how fast it generates. All sizes are bytes.

Pure: the machine is a :class:`MachineFacts`, the model a summary and a parameter count. Weights and cache are estimated
within a few per cent; each formula is in its docstring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from gpux.errors import UsageError
from gpux.inspect.architecture import ArchitectureSummary, CacheShape, ParameterCount
from gpux.model.precisions import find_precision
from gpux.model.values import Value

_STORED = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "float8_e4m3fn": 8}
BLOCK = 32  #: quantized values that share a scale of 32 bits, in tables and, by default, in layers
TABLE_ROWS = 1024  #: a table with fewer rows is not quantized
#: encoder-decoders whose encoder reads no tokens
_NO_TOKENS = ("whisper", "speech_to_text", "moonshine", "pix2struct", "vision-encoder-decoder", "trocr")
#: endings of classes with an output matrix over the vocabulary
_HEADS = ("ForMaskedLM", "ForCausalLM", "LMHeadModel", "ForPreTraining", "ForConditionalGeneration")
CHUNK = 512  #: maximum tokens of a prompt per call of a decoder


def weight_bytes(parameters: ParameterCount, precision: str, summary: ArchitectureSummary | None = None) -> int | None:
    """Bytes of all weights in the graphs: ``matrices x bits + tables x bits``; None if the parameter count is unknown.

    A weight that is quantized takes its bits and a share of its block's scale of 32 bits. For the precisions that gpux
    creates, blocks and tables are those of :mod:`gpux.quantize.methods`, its first method: int4 in blocks of 64 in a
    decoder (4.5 bits), else of 32 (5 bits); int8 in blocks of 32 (9 bits), without a cache per column. A table of
    tokens takes 9 bits, and the bits of the output matrix where it is tied to it and shares its blocks; positions and
    narrow tables and the convolution of patches stay in fp32. An encoder-decoder holds its table of tokens in both
    graphs, in fp32 once; a decoder with rotary positions holds their sines and cosines. For other precisions, and
    without ``summary``, all tables keep the precision of activations.
    """
    if parameters.total is None:
        return None
    row = find_precision(precision)
    matrices = parameters.total if parameters.non_embedding is None else parameters.non_embedding
    tables = parameters.total - matrices
    if row.bits >= 16:
        more = 0 if summary is None else _angles(summary, tables) + (_again(summary) if row.bits == 16 else 0)
        return round((parameters.total + more) * row.bits / 8)
    if summary is None or not row.can_quantize:
        return round((matrices * (row.bits + 32 / BLOCK) + tables * row.activation_bits) / 8)
    by_columns = row.bits == 8 and summary.cache is None
    block = 64 if row.bits == 4 and summary.cache is not None else BLOCK
    layer = row.bits + 32 / ((summary.hidden_size or 256) if by_columns else block)
    patches = min(_patches(summary), matrices)
    bits = _table_bits(summary, tables, layer, 0 if by_columns else block)
    bits += _again(summary) * _gather_bits(summary, precision) + _angles(summary, tables) * 32
    return round(((matrices - patches) * layer + patches * 32 + bits) / 8)


def _angles(summary: ArchitectureSummary, tables: int) -> int:
    """Values of the sines and cosines of rotary positions, for a decoder without a table of positions."""
    one = (summary.vocab_size or 0) * (summary.hidden_size or 0)
    if summary.kind != "decoder" or tables not in (one, 2 * one):
        return 0
    return (summary.context_length or 0) * (summary.head_size or 0)


def _again(summary: ArchitectureSummary) -> int:
    """Values of the table of tokens that encoder and decoder share, which both graphs hold unless they are in fp32."""
    if summary.kind != "encoder-decoder" or summary.model_type in _NO_TOKENS:
        return 0
    return (summary.vocab_size or 0) * (summary.hidden_size or 0)


def _patches(summary: ArchitectureSummary) -> int:
    """Values of the convolution that reads the patches of an image, which is not quantized."""
    if summary.kind != "vision" or summary.patch_size is None:
        return 0
    return 3 * summary.patch_size**2 * (summary.hidden_size or 0)


def _table_bits(summary: ArchitectureSummary, tables: int, layer: float, block: int) -> float:
    """Bits of the embedding tables and the output matrix, ``tables`` values together.

    ``layer`` is the bits of a value in a layer, ``block`` its block, 0 for a scale per column.
    """
    hidden, rows = summary.hidden_size or 0, summary.vocab_size or 0
    one = min(rows * hidden, tables)  # the table of tokens
    is_large, gather = _is_large(summary), _gather_bits(summary, "int8")
    head = _has_head(summary)
    if head and summary.tied_embeddings:
        shared = is_large and block and hidden % block == 0
        tokens, used = one * (layer if shared else layer + gather), one
    elif head:
        second = min(one, tables - one)
        tokens, used = one * gather + second * layer, one + second
    else:
        tokens, used = one * gather, one
    positions = (summary.context_length or 0) >= TABLE_ROWS and hidden % BLOCK == 0
    return tokens + (tables - used) * (8 + 32 / BLOCK if positions else 32)


def _is_large(summary: ArchitectureSummary) -> bool:
    """Whether the table of tokens is quantized in int8 and int4."""
    return (summary.vocab_size or 0) >= TABLE_ROWS and (summary.hidden_size or 0) % BLOCK == 0


def _gather_bits(summary: ArchitectureSummary, precision: str) -> float:
    """Bits of a value in a table of tokens that only looks up rows."""
    row = find_precision(precision)
    if row.can_quantize and row.bits < 16:
        return 8 + 32 / BLOCK if _is_large(summary) else 32
    return row.activation_bits


def _has_head(summary: ArchitectureSummary) -> bool:
    """Whether the model has an output matrix over its vocabulary, by its class or its cache."""
    return summary.cache is not None or any(name.endswith(_HEADS) for name in summary.architectures)


def cache_bytes(shape: CacheShape | None, precision: str, context: int, batch: int) -> int:
    """Memory of the KV cache.

    ``batch x bytes x (width x (full_layers x context + sliding_layers x min(context, window)
    + cross_layers x source) + state)``, where width is the number of values per token and layer:
    ``2 x kv_heads x head_size``, for latent attention after expansion, as in exported graphs. ``source`` is the length
    of the encoder's output, the context unless it is fixed. 0 for a model without a decoder.
    """
    if shape is None:
        return 0
    seen = shape.sliding_layers * (min(context, shape.window) if shape.window else context)
    source = shape.cross_layers * (shape.cross_length or context)
    numbers = shape.expanded_width * (shape.full_layers * context + seen + source) + shape.state
    return batch * numbers * find_precision(precision).activation_bits // 8


def activation_bytes(summary: ArchitectureSummary, precision: str, context: int, batch: int) -> int:
    """Memory of one call beside weights and cache, roughly: that of the largest layer, as layers free theirs.

    ``batch x bytes x rows x (4 x hidden + 3 x inner + 2 x heads x columns + vocabulary)``. A decoder reads
    its prompt in chunks of at most 512 rows, with the whole context as columns; an encoder reads all rows at once.
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
    """Bytes read in one decoding step: the weights that the step uses, and the whole cache.

    With untied embeddings, only the output matrix is read entirely. With experts, b sequences use
    ``all x (1 - (1 - used / count) ** b)`` of them, if they choose independently.
    """
    whole, row = weight_bytes(parameters, precision, summary), find_precision(precision)
    if whole is None or not parameters.total:
        return None
    used = parameters.total - _untouched(summary, parameters, batch)
    looked_up = (summary.vocab_size or 0) * (summary.hidden_size or 0) if summary.tied_embeddings is False else 0
    angles = _angles(summary, parameters.total - (parameters.non_embedding or parameters.total))
    whole -= angles * (32 if row.bits < 16 else row.bits) // 8  # only those of one position are read
    read = whole * used / parameters.total - looked_up * _gather_bits(summary, precision) / 8
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
    """Decoding speed: ``batch x bandwidth / bytes read per step``; an upper bound, as computing takes time too.

    None for a model without a decoder, or without a bandwidth or parameter count.
    """
    read = read_bytes(summary, parameters, precision, context, batch)
    if summary.cache is None or read is None or not bandwidth:
        return None
    return batch * bandwidth / read


def download_bytes(summary: ArchitectureSummary, parameters: ParameterCount) -> int | None:
    """Size of the weight files: parameters x bytes of the stored dtype; None if either is unknown.

    Quantized files take their bits per matrix weight (and a scale of 16 bits per group), 16 bits per table weight.
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
    """Peak disk usage of a conversion beside the download: the fp32 graph twice (in the worker and in the store), and
    the graph in the requested precision."""
    if parameters.total is None or weights is None:
        return None
    exported = 4 * parameters.total
    return 2 * exported + (weights if weights != exported else 0)


Verdict = Literal["fits", "tight", "does not fit", "unknown"]

BASE = 300_000_000  #: memory of the process with onnxruntime and a tokenizer, without a model
#: Fraction of the free memory that may be needed for "fits", as estimates may be off by a tenth.
COMFORT = 0.9


@dataclass(frozen=True)
class GpuFacts(Value):
    """One GPU."""

    name: str
    total: int
    free: int
    bandwidth: float | None = None  #: bytes per second


@dataclass(frozen=True)
class MachineFacts(Value):
    """Memory, GPUs, bandwidth and disk of a machine; None if unknown."""

    ram_total: int | None
    ram_available: int | None  #: within the limit of the control group
    gpus: tuple[GpuFacts, ...] = ()
    bandwidth: float | None = None  #: bytes per second of main memory (:func:`gpux.system.bandwidth.measure_bandwidth`)
    disk_free: int | None = None


@dataclass(frozen=True)
class DeviceFit(Value):
    """Whether a model fits one device."""

    name: str  #: ``RAM``, the name of a GPU, ``2 GPUs together``
    total: int | None
    free: int | None
    verdict: Verdict
    largest_context: int | None  #: tokens whose cache fits beside the weights; None for a model without a cache
    tokens_per_second: float | None  #: sum over the batch


@dataclass(frozen=True)
class FitReport(Value):
    """Memory, disk and speed of a model for one precision, context and batch; None if its size is unknown."""

    precision: str
    context: int
    batch: int
    weights: int | None
    kv_cache: int | None
    activations: int | None
    memory: int | None  #: sum, including the runtime's own
    download: int | None
    conversion_disk: int | None  #: peak, beside the download
    disk_verdict: Verdict
    devices: tuple[DeviceFit, ...]
    notes: tuple[str, ...] = ()


def estimate(
    summary: ArchitectureSummary,
    parameters: ParameterCount,
    *,
    machine: MachineFacts,
    precision: str = "fp32",
    context: int | None = None,
    batch: int = 1,
    stored_bytes: int | None = None,
) -> FitReport:
    """Estimate memory, disk and speed of a model on a machine.

    Args:
        summary: architecture of the model.
        parameters: parameter count; if it is unknown, verdicts are ``unknown``.
        machine: the machine.
        precision: precision of the graph.
        context: tokens per sequence, prompt and answer; default: 4096, or the model's context length if shorter.
        batch: sequences at once.
        stored_bytes: size of the weight files to download; default: computed from the dtype of the configuration.

    Raises:
        UsageError: the precision is unknown, or ``context`` or ``batch`` is less than 1.
    """
    length = context if context is not None else min(4096, summary.context_length or 4096)
    _check(precision, length, batch)
    case = _Case(summary, parameters, precision, length, batch)
    needed = case.memory
    download = stored_bytes if stored_bytes is not None else download_bytes(summary, parameters)
    conversion = conversion_disk(parameters, case.weights)
    return FitReport(
        precision=precision,
        context=length,
        batch=batch,
        weights=case.weights,
        kv_cache=case.cache,
        activations=case.activations,
        memory=needed,
        download=download,
        conversion_disk=conversion,
        disk_verdict=_verdict(_sum(download, conversion), machine.disk_free, machine.disk_free),
        devices=_devices(case, machine),
        notes=tuple(_notes(case, machine)),
    )


def _check(precision: str, context: int, batch: int) -> None:
    find_precision(precision)
    if context < 1 or batch < 1:
        raise UsageError(f"context and batch must be at least 1, not {context} and {batch}")


@dataclass(frozen=True)
class _Case:
    """One model at one precision, context and batch."""

    summary: ArchitectureSummary
    parameters: ParameterCount
    precision: str
    context: int
    batch: int

    @property
    def weights(self) -> int | None:
        return weight_bytes(self.parameters, self.precision, self.summary)

    @property
    def cache(self) -> int | None:
        if self.weights is None:
            return None
        return cache_bytes(self.summary.cache, self.precision, self.context, self.batch)

    @property
    def activations(self) -> int | None:
        if self.weights is None:
            return None
        return activation_bytes(self.summary, self.precision, self.context, self.batch)

    @property
    def memory(self) -> int | None:
        """Weights, cache, activations and :data:`BASE`."""
        return _sum(self.weights, self.cache, self.activations, BASE)

    def speed(self, bandwidth: float | None) -> float | None:
        return tokens_per_second(self.summary, self.parameters, self.precision, self.context, self.batch, bandwidth)

    def largest_context(self, room: int | None) -> int | None:
        """Tokens for which the model fits ``room``, at most its context length; 0 if it never fits."""
        if room is None or self.weights is None or self.summary.cache is None:
            return None
        most = self.summary.context_length or 1 << 24
        return _largest(most, lambda length: (replace(self, context=length).memory or 0) <= room)


def _largest(most: int, holds: Callable[[int], bool]) -> int:
    """Binary search: the largest number from 0 to ``most`` for which the monotonic ``holds`` is true."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _sum(*parts: int | None) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _verdict(needed: int | None, free: int | None, total: int | None) -> Verdict:
    """``fits`` with a tenth to spare; ``tight`` if nearly all, or memory in use by others, is needed."""
    if needed is None or free is None:
        return "unknown"
    if needed <= COMFORT * free:
        return "fits"
    return "tight" if needed <= max(free, COMFORT * (total or 0)) else "does not fit"


def _devices(case: _Case, machine: MachineFacts) -> tuple[DeviceFit, ...]:
    found = [_device(case, "RAM", machine.ram_total, machine.ram_available, machine.bandwidth)]
    found += [_device(case, gpu.name, gpu.total, gpu.free, gpu.bandwidth) for gpu in machine.gpus]
    if len(machine.gpus) > 1:
        total, free = sum(gpu.total for gpu in machine.gpus), sum(gpu.free for gpu in machine.gpus)
        found.append(_device(case, f"{len(machine.gpus)} GPUs together", total, free, None))
    return tuple(found)


def _device(case: _Case, name: str, total: int | None, free: int | None, bandwidth: float | None) -> DeviceFit:
    verdict = _verdict(case.memory, free, total)
    speed = None if verdict == "does not fit" else case.speed(bandwidth)
    return DeviceFit(name, total, free, verdict, case.largest_context(free), speed)


def _notes(case: _Case, machine: MachineFacts) -> list[str]:
    summary, notes = case.summary, []
    if case.parameters.total is None:
        notes.append(f"the number of parameters is unknown: {case.parameters.reason or 'no source states it'}")
    if summary.context_length is not None and case.context > summary.context_length:
        notes.append(f"the model supports {summary.context_length} tokens, fewer than the requested {case.context}")
    shape = summary.cache
    if shape is not None and shape.width != shape.expanded_width:
        times = shape.expanded_width / shape.width
        notes.append(f"a runtime that caches latent attention (MLA) needs a cache {times:.0f} times smaller")
    if len(machine.gpus) > 1:
        notes.append("onnxruntime runs a graph on one GPU; several GPUs help only if the model is split")
    return notes
