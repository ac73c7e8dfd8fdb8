"""Estimates whether a model runs on a machine and how fast, from numbers alone. All sizes are bytes.

Pure: what the machine has comes in as :class:`MachineFacts`, what the model is as its summary and parameter count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from gpux.errors import UsageError
from gpux.inspect.architecture import ArchitectureSummary, ParameterCount
from gpux.inspect.footprint import (
    activation_bytes,
    cache_bytes,
    conversion_disk,
    download_bytes,
    tokens_per_second,
    weight_bytes,
)
from gpux.model.precisions import find_precision
from gpux.model.values import Value

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
