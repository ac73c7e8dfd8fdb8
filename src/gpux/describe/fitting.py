"""Estimates whether a described model fits this machine, with :mod:`gpux.inspect.fit`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from gpux.describe.description import ModelDescription
from gpux.inspect import formats
from gpux.inspect.architecture import ParameterCount, count_parameters, summarize
from gpux.inspect.fit import FitReport, GpuFacts, MachineFacts, estimate
from gpux.model.precisions import QUANTIZED
from gpux.system.bandwidth import measure_bandwidth
from gpux.system.machine import available_memory, memory_limit

#: The original precision and those that gpux can quantize to.
PRECISIONS = ("fp32", *QUANTIZED)
_TIMEOUT = 5.0  #: seconds to wait for nvidia-smi
_MEBI = 1 << 20


def fit_model(
    found: ModelDescription,
    machine: MachineFacts,
    *,
    context: int | None = None,
    batch: int = 1,
    precisions: Sequence[str] = PRECISIONS,
) -> list[FitReport]:
    """Estimate memory, disk and speed, one report per precision.

    Args:
        found: a description of :func:`gpux.describe_model`.
        machine: the machine, as :func:`this_machine` measures it.
        context: tokens per sequence; default: that of :func:`gpux.inspect.fit.estimate`.
        batch: sequences at once.
        precisions: precisions of the graph.

    Raises:
        UsageError: unknown precision, or a context or batch below 1.
    """
    summary = found.architecture or summarize({})
    counted, sizes = _count(found), _stored(found)
    return [
        estimate(
            summary, counted, machine=machine, precision=name, context=context, batch=batch, stored_bytes=sizes or None
        )
        for name in precisions
    ]


def this_machine(home: Path) -> MachineFacts:
    """Measure memory, GPUs, memory bandwidth and free disk space at ``home``, in a fraction of a second."""
    folder = next((path for path in (home, *home.parents) if path.exists()), None)
    return MachineFacts(
        ram_total=memory_limit(),
        ram_available=available_memory(),
        gpus=gpus(),
        bandwidth=measure_bandwidth(),
        disk_free=shutil.disk_usage(folder).free if folder else None,
    )


def gpus() -> tuple[GpuFacts, ...]:
    """The GPUs of this machine, listed by ``nvidia-smi``; empty without that tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=_TIMEOUT, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(card for line in answer.splitlines() if (card := _card(line)) is not None)


def _card(line: str) -> GpuFacts | None:
    """Parse one line: a name and two sizes in MiB."""
    name, *sizes = (part.strip() for part in line.rsplit(",", 2))
    if len(sizes) != 2 or not all(size.isdigit() for size in sizes):
        return None
    total, free = (int(size) * _MEBI for size in sizes)
    return GpuFacts(name, total, free)


def _count(found: ModelDescription) -> ParameterCount:
    """The count by formula, which includes active parameters; without a formula, the count in the description."""
    counted, facts = count_parameters(found.config), found.parameters
    if counted.total is not None and found.gguf is None:
        return counted
    return ParameterCount(facts.total, facts.active or facts.total, None, facts.basis or "unknown", facts.missing)


def _stored(found: ModelDescription) -> int:
    """Bytes of the weights that a pull downloads, as far as the listing has sizes."""
    info = found.known.info
    if found.gguf is not None and found.gguf.bytes:
        return found.gguf.bytes
    wanted = frozenset(formats.source_weights(file.path for file in info.files))
    return sum(file.size or 0 for file in info.files if file.path in wanted)
