"""Quantizes the graphs of one stored variant and measures the loss: the steps between two folders, without a store.

1. The float32 graphs run on the evaluation inputs, and their outputs are written to disk.
2. The program :mod:`gpux.quantize.program` writes the graphs of the first method, in a process of its own.
3. The quantized graphs run on the same inputs, and the loss is measured. Beyond a limit, the next method is tried.
4. The proof cases of the float32 variant are kept with the quantized graphs' own outputs, for later replays.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from gpux.convert.reference_case import Arrays, write_case
from gpux.errors import ConversionError, GpuxError, ProofError, WorkerCrashedError, error_types
from gpux.model.precisions import find_precision
from gpux.model.values import Value
from gpux.model.variant import ProofCase, StoredModel
from gpux.proof.cases import FOLDER, kept_cases, with_outputs_of
from gpux.proof.comparison import compare
from gpux.quantize.evaluation import EvaluationInput, evaluation_inputs
from gpux.quantize.loss import measure_loss, store_outputs, violations
from gpux.quantize.methods import Method, QuantizeOptions, methods
from gpux.system.cancel import CancelToken
from gpux.system.launch import launch_command
from gpux.system.process import Exit, converse, tail
from gpux.system.progress import ProgressCallback, Stages, silent

PROGRAM = "gpux.quantize.program"


class OpenGraphs(Protocol):
    """Graphs of one folder, ready to run; :class:`gpux.runtime.graphs.Graphs` is the usual implementation."""

    def run(self, name: str, inputs: Arrays) -> Mapping[str, NDArray[Any]]:
        """Run one graph."""
        ...


#: Opens graphs: the folder, and graph name -> file.
GraphOpener = Callable[[Path, Mapping[str, str]], AbstractContextManager[OpenGraphs]]


@dataclass(frozen=True)
class QuantizedGraphs(Value):
    """The quantized graphs of one variant."""

    graphs: Mapping[str, str]  #: graph name -> file, relative to the output folder
    source_files: tuple[str, ...]  #: the source's graphs and their external data, relative to its folder
    precision: str
    method: str  #: such as ``int8-dynamic-perchannel``
    loss: dict[str, float]  #: against float32; see :mod:`gpux.quantize.loss`
    violations: tuple[str, ...]  #: the measures beyond their limits, in words; empty unless ``allow_inexact``
    cases: tuple[ProofCase, ...]  #: kept in ``proof/`` with the quantized graphs' own outputs
    versions: Mapping[str, str]  #: library -> version
    seconds: float
    peak_rss: int | None  #: bytes, of the quantizer's process


@dataclass(frozen=True)
class _Written:
    graphs: Mapping[str, str]
    source_files: tuple[str, ...]
    versions: Mapping[str, str]
    peak_rss: int | None


def quantize_graphs(
    source: StoredModel,
    output: Path,
    precision: str,
    *,
    open_graphs: GraphOpener,
    scratch: Path,
    log: Path,
    options: QuantizeOptions | None = None,
    allow_inexact: bool = False,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    memory_limit: int | None = None,
) -> QuantizedGraphs:
    """Write the graphs of a float32 variant in another precision to ``output``, and proof cases to its ``proof/``.

    The float32 graphs are closed before the quantizer starts: memory holds one precision at a time.

    Args:
        source: a stored variant in fp32 with kept cases.
        output: the folder of the new variant; files other than graphs and cases are not written.
        precision: ``fp16``, ``int8`` or ``int4``.
        open_graphs: opens graphs on the CPU; never two folders at once.
        scratch: an empty folder for outputs, emptied again; up to :data:`gpux.quantize.loss.STORED_BYTES`.
        log: file that receives the quantizer's output.
        options: of the quantization.
        allow_inexact: accept the last method's graphs although the loss is beyond a limit.
        progress: called with the stages ``convert`` and ``prove``.
        cancel: cancels the quantization.
        memory_limit: bytes that the quantizer's process may use; by default nearly all that is available.

    Raises:
        UsageError: an unknown precision, or the source is not fp32.
        UnsupportedError: the precision is not supported for these graphs.
        ProofError: the loss is beyond its limits with every method; ``details`` has ``loss``.
        ConversionError: the quantizer failed; OutOfMemoryError: it needed more memory than is available.
        CancelledError: the token was set.
    """
    started, available = time.monotonic(), methods(source, precision, options or QuantizeOptions())
    stages, token = Stages(progress or silent), cancel or CancelToken()
    job = _Job(source, output, precision, open_graphs, scratch, log, stages, token, memory_limit)
    inputs = evaluation_inputs(source)
    try:
        job.run_source(inputs)
        method, written, loss, found = job.try_each(available, inputs)
        if found and not allow_inexact:
            raise _loss_error(source, precision, loss, found)
        cases = job.keep_cases()
    finally:
        shutil.rmtree(job.outputs, ignore_errors=True)
    seconds = time.monotonic() - started
    return QuantizedGraphs(
        written.graphs,
        written.source_files,
        precision,
        method.name,
        loss,
        found,
        cases,
        written.versions,
        seconds,
        written.peak_rss,
    )


def _loss_error(source: StoredModel, precision: str, loss: dict[str, float], found: tuple[str, ...]) -> ProofError:
    return ProofError(
        f"the loss of {source.id} in {precision} is beyond its limits: {'; '.join(found)}; nothing was stored",
        hint="`--allow-inexact` stores the variant, marked as inexact.",
        model=source.id,
        loss=loss,
    )


@dataclass(frozen=True)
class _Job:
    source: StoredModel
    output: Path
    precision: str
    open_graphs: GraphOpener
    scratch: Path
    log: Path
    stages: Stages
    cancel: CancelToken
    memory_limit: int | None

    @property
    def outputs(self) -> Path:
        """The folder of the float32 graphs' outputs."""
        return self.scratch / "outputs"

    @property
    def files(self) -> dict[str, str]:
        return {graph.name: graph.file for graph in self.source.manifest.graphs}

    def run_source(self, inputs: Sequence[EvaluationInput]) -> None:
        with (
            self.stages.stage("prove", f"Running fp32 on {len(inputs)} inputs") as done,
            self.open_graphs(self.source.path, self.files) as graphs,
        ):
            store_outputs(inputs, graphs.run, self.outputs, self.cancel)
            done(f"ran fp32 on {len(inputs)} inputs")

    def try_each(
        self, available: Sequence[Method], inputs: Sequence[EvaluationInput]
    ) -> tuple[Method, _Written, dict[str, float], tuple[str, ...]]:
        """The first method within the limits, else the last one; the output folder has the graphs of that method."""
        for number, method in enumerate(available, 1):
            written = self.write(method)
            loss, found = self.measure(inputs)
            if not found:
                break
            if number < len(available):
                self.stages.warn(
                    f"{method.name} of {self.source.id} is beyond the limits of loss ({'; '.join(found)}); trying "
                    f"{available[number].name}"
                )
        return method, written, loss, found

    def write(self, method: Method) -> _Written:
        """Run the quantizer."""
        request = {
            "command": "quantize",
            "source": str(self.source.path),
            "output": str(self.output),
            "graphs": self.files,
            "method": dict(method.parameters),
        }
        events: list[Mapping[str, Any]] = []
        with self.stages.stage("convert", f"Quantizing to {self.precision}") as done:
            end = converse(
                launch_command(sys.executable, PROGRAM),
                request,
                log=self.log,
                on_event=events.append,
                cancel=self.cancel,
                memory_limit=self.memory_limit,
            )
            last = events[-1] if events else {}
            if last.get("event") == "failure":
                raise self._failure(last)
            if last.get("event") != "result" or end.code != 0:
                raise self._crash(end)
            done(f"quantized by {method.name}")
        return _Written(last["graphs"], tuple(last["source_files"]), last["versions"], last.get("peak_rss"))

    def measure(self, inputs: Sequence[EvaluationInput]) -> tuple[dict[str, float], tuple[str, ...]]:
        """The loss, and the measures beyond their limits, in words."""
        with self.stages.stage("prove", "Comparing with fp32") as done:
            try:
                with self.open_graphs(self.output, self.files) as graphs:
                    loss = measure_loss(self.source, inputs, graphs.run, self.outputs, self.cancel)
            except ProofError as exc:  # an overflow or a missing output, which no measure expresses
                return {}, (exc.message,)
            done("loss: " + ", ".join(f"{name} {value:.4g}" for name, value in loss.items()))
        return loss, tuple(violations(loss, self.precision))

    def keep_cases(self) -> tuple[ProofCase, ...]:
        """Write the source's cases with the quantized graphs' outputs, and compare each once with the graphs."""
        kept = []
        tolerance = find_precision(self.precision).replay_tolerance
        with self.open_graphs(self.output, self.files) as graphs:
            for case in kept_cases(self.source):
                self.cancel.check()
                own = with_outputs_of(case, graphs.run)
                write_case(own, self.output / FOLDER / f"{case.name}.npz", compressed=True)
                kept.append(compare(own, graphs.run, tolerance, kept=True))
        return tuple(kept)

    def _failure(self, failure: Mapping[str, Any]) -> GpuxError:
        kind = error_types().get(failure["code"], ConversionError)
        message = f"{self.source.id} cannot be quantized to {self.precision}: {failure['message']}"
        hint = failure.get("hint") or f"The quantizer's output: {self.log}"
        return kind(message, hint=hint, log=self.log, model=self.source.id)

    def _crash(self, end: Exit) -> WorkerCrashedError:
        last = tail(self.log)
        message = f"the quantization of {self.source.id} to {self.precision} {end} without a result"
        return WorkerCrashedError(
            f"{message}; the end of its output:\n{last}" if last else message,
            hint=f"The quantizer's output: {self.log}",
            log=self.log,
            signal=end.signal,
        )
