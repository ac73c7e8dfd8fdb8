"""Estimates whether a model runs on a machine and how fast, from numbers alone. All sizes are bytes.

Pure: what the machine has comes in as :class:`MachineFacts`, what the model is as its summary and parameter count.
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


Verdict = Literal["fits", "tight", "does not fit", "unknown"]

BASE = 300_000_000  #: the process with onnxruntime and a tokenizer, before any model
#: Of free memory: beyond it an estimate that is a tenth off no longer holds.
COMFORT = 0.9


@dataclass(frozen=True)
class GpuFacts(Value):
    """One graphics card."""

    name: str
    total: int
    free: int
    bandwidth: float | None = None  #: bytes per second of its memory


@dataclass(frozen=True)
class MachineFacts(Value):
    """What the machine has; None for what it does not tell."""

    ram_total: int | None
    ram_available: int | None  #: what may still be taken, by the control group's limit too
    gpus: tuple[GpuFacts, ...] = ()
    bandwidth: float | None = None  #: bytes per second of main memory (:func:`gpux.system.bandwidth.measure_bandwidth`)
    disk_free: int | None = None


@dataclass(frozen=True)
class DeviceFit(Value):
    """How a model stands to one memory."""

    name: str  #: ``RAM``, a card's name, ``2 GPUs together``
    total: int | None
    free: int | None
    verdict: Verdict
    largest_context: int | None  #: tokens that fit beside the weights; None for a model that keeps no cache
    tokens_per_second: float | None  #: of all sequences of the batch together


@dataclass(frozen=True)
class FitReport(Value):
    """Memory, disk and speed of a model at one precision, context and batch; None where its size is unknown."""

    precision: str
    context: int
    batch: int
    weights: int | None
    kv_cache: int | None
    activations: int | None
    memory: int | None  #: all of it together, the runtime's own included
    download: int | None
    conversion_disk: int | None  #: at its peak, beside the download
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
    """What a model needs of a machine.

    Args:
        summary: the model's sizes.
        parameters: how many there are; with none of them known the report says ``unknown``.
        machine: what there is.
        precision: of the graph that runs.
        context: tokens of one sequence, prompt and answer together; default: 4096, or the model's most if that is less.
        batch: sequences at a time.
        stored_bytes: of the weight files as they are downloaded; default: by the dtype of the configuration.

    Raises:
        UsageError: unknown precision, or a context or batch below 1.
    """
    length = context if context is not None else min(4096, summary.context_length or 4096)
    _check(precision, length, batch)
    question = _Question(summary, parameters, precision, length, batch)
    needed = question.memory
    download = stored_bytes if stored_bytes is not None else download_bytes(summary, parameters)
    conversion = conversion_disk(parameters, question.weights)
    return FitReport(
        precision=precision,
        context=length,
        batch=batch,
        weights=question.weights,
        kv_cache=question.cache,
        activations=question.activations,
        memory=needed,
        download=download,
        conversion_disk=conversion,
        disk_verdict=_verdict(_sum(download, conversion), machine.disk_free, machine.disk_free),
        devices=_devices(question, machine),
        notes=tuple(_notes(question, machine)),
    )


def _check(precision: str, context: int, batch: int) -> None:
    find_precision(precision)
    if context < 1 or batch < 1:
        raise UsageError(f"context and batch are counts from 1 on, not {context} and {batch}")


@dataclass(frozen=True)
class _Question:
    """One model, asked about at one precision, context and batch."""

    summary: ArchitectureSummary
    parameters: ParameterCount
    precision: str
    context: int
    batch: int

    @property
    def weights(self) -> int | None:
        return weight_bytes(self.parameters, self.precision)

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
        """Weights, cache, activations, and the runtime's own."""
        return _sum(self.weights, self.cache, self.activations, BASE)

    def speed(self, bandwidth: float | None) -> float | None:
        return tokens_per_second(self.summary, self.parameters, self.precision, self.context, self.batch, bandwidth)

    def largest_context(self, room: int | None) -> int | None:
        """Tokens that fit into the room: 0 where not even one does; the model's own limit at most."""
        if room is None or self.weights is None or self.summary.cache is None:
            return None
        most = self.summary.context_length or 1 << 24
        return _largest(most, lambda length: (replace(self, context=length).memory or 0) <= room)


def _largest(most: int, holds: Callable[[int], bool]) -> int:
    """The largest number from 0 to ``most`` for which it holds; it holds for all below one that it holds for."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _sum(*parts: int | None) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _verdict(needed: int | None, free: int | None, total: int | None) -> Verdict:
    """``fits`` with a tenth to spare; ``tight`` where it takes nearly all, or what others hold now; else neither."""
    if needed is None or free is None:
        return "unknown"
    if needed <= COMFORT * free:
        return "fits"
    return "tight" if needed <= max(free, COMFORT * (total or 0)) else "does not fit"


def _devices(question: _Question, machine: MachineFacts) -> tuple[DeviceFit, ...]:
    found = [_device(question, "RAM", machine.ram_total, machine.ram_available, machine.bandwidth)]
    found += [_device(question, gpu.name, gpu.total, gpu.free, gpu.bandwidth) for gpu in machine.gpus]
    if len(machine.gpus) > 1:
        total, free = sum(gpu.total for gpu in machine.gpus), sum(gpu.free for gpu in machine.gpus)
        found.append(_device(question, f"{len(machine.gpus)} GPUs together", total, free, None))
    return tuple(found)


def _device(question: _Question, name: str, total: int | None, free: int | None, bandwidth: float | None) -> DeviceFit:
    verdict = _verdict(question.memory, free, total)
    speed = None if verdict == "does not fit" else question.speed(bandwidth)
    return DeviceFit(name, total, free, verdict, question.largest_context(free), speed)


def _notes(question: _Question, machine: MachineFacts) -> list[str]:
    summary, notes = question.summary, []
    if question.parameters.total is None:
        notes.append(f"the number of parameters is unknown: {question.parameters.reason or 'nothing tells it'}")
    if summary.context_length is not None and question.context > summary.context_length:
        notes.append(f"the model takes {summary.context_length} tokens, fewer than the {question.context} asked about")
    shape = summary.cache
    if shape is not None and shape.width != shape.expanded_width:
        times = shape.expanded_width / shape.width
        notes.append(f"a runtime that keeps the latent form of attention (MLA) takes a cache {times:.0f} times smaller")
    if len(machine.gpus) > 1:
        notes.append("onnxruntime runs a graph on one GPU: all together count only where the model is split")
    return notes
