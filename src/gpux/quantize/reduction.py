"""One reduction: the quantizer's process, the same questions to both variants, and what is kept of the answers."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from gpux.errors import ConversionError, GpuxError, ProofError, WorkerCrashedError, error_types
from gpux.model.precisions import find_precision
from gpux.model.values import Value
from gpux.model.variant import ProofCase, StoredModel
from gpux.proof.cases import FOLDER, Arrays, kept_cases, with_outputs_of, write_case
from gpux.proof.comparison import compare
from gpux.quantize.loss import keep_answers, measure_loss, violations
from gpux.quantize.probes import Probe, find_probes
from gpux.quantize.recipes import Recipe, ReductionOptions, recipes
from gpux.system.cancel import CancelToken
from gpux.system.launch import launch_command
from gpux.system.process import Exit, converse, tail
from gpux.system.progress import ProgressCallback, Stages, silent

QUANTIZER = "gpux.quantize.program"


class OpenGraphs(Protocol):
    """Graphs of one folder, ready to run; :class:`gpux.runtime.graphs.Graphs` is one."""

    def run(self, name: str, inputs: Arrays) -> Mapping[str, NDArray[Any]]:
        """Run one graph."""
        ...


#: Opens graphs: the folder, and graph name -> file.
GraphOpener = Callable[[Path, Mapping[str, str]], AbstractContextManager[OpenGraphs]]


@dataclass(frozen=True)
class Reduction(Value):
    """What was made."""

    graphs: Mapping[str, str]  #: graph name -> file, relative to the output folder
    precision: str
    recipe: str  #: such as ``int8-dynamic-perchannel``
    loss: dict[str, float]  #: against float32; see :mod:`gpux.quantize.loss`
    violations: tuple[str, ...]  #: what of the loss is beyond its limits, where that was allowed
    cases: tuple[ProofCase, ...]  #: kept in ``proof/`` with the reduced graphs' own answers
    versions: Mapping[str, str]
    seconds: float
    peak_rss: int | None  #: bytes, of the quantizer


@dataclass(frozen=True)
class _Made:
    graphs: Mapping[str, str]
    versions: Mapping[str, str]
    peak_rss: int | None


def reduce(
    source: StoredModel,
    output: Path,
    precision: str,
    *,
    open_graphs: GraphOpener,
    scratch: Path,
    log: Path,
    options: ReductionOptions | None = None,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    memory_limit: int | None = None,
) -> Reduction:
    """Write the graphs of a float32 variant in another precision to ``output``, with cases of their own in ``proof/``.

    The float32 graphs are asked first and closed; then each recipe is tried until one is within the limits.

    Args:
        source: a stored variant in fp32 with kept cases.
        output: the folder of the new variant; its other files are the caller's business.
        precision: ``fp16``, ``int8`` or ``int4``.
        open_graphs: opens graphs on the CPU; never two folders at once.
        scratch: an empty folder for answers, emptied again; up to :data:`gpux.quantize.loss.KEPT_BYTES`.
        log: takes what the quantizer prints.
        options: see there.
        progress: told about the stages ``convert`` and ``prove``.
        cancel: ends it.
        memory_limit: bytes that the quantizer may take.

    Raises:
        UsageError: an unknown precision, or the source is not fp32.
        UnsupportedError: the precision cannot be made, or has nothing to reduce in these graphs.
        ProofError: the loss is beyond its limits with every recipe; ``details`` has ``loss``.
        CancelledError: the token was set.
    """
    options, token = options or ReductionOptions(), cancel or CancelToken()
    started, ways = time.monotonic(), recipes(source, precision, options)
    job = _Job(source, output, precision, open_graphs, scratch, log, Stages(progress or silent), token, memory_limit)
    probes = find_probes(source)
    try:
        job.ask_source(probes)
        recipe, made, loss, found = job.try_each(ways, probes)
        if found and not options.allow_inexact:
            raise _too_coarse(source, precision, loss, found)
        cases = job.keep_cases()
    finally:
        shutil.rmtree(job.answers, ignore_errors=True)
    seconds = time.monotonic() - started
    return Reduction(made.graphs, precision, recipe.name, loss, found, cases, made.versions, seconds, made.peak_rss)


def _too_coarse(source: StoredModel, precision: str, loss: dict[str, float], found: tuple[str, ...]) -> ProofError:
    return ProofError(
        f"{precision} of {source.id} costs too much: {'; '.join(found)}; nothing was stored",
        hint="`--allow-inexact` stores it all the same, marked as inexact.",
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
    def answers(self) -> Path:
        return self.scratch / "answers"

    @property
    def files(self) -> dict[str, str]:
        return {graph.name: graph.file for graph in self.source.manifest.graphs}

    def ask_source(self, probes: tuple[Probe, ...]) -> None:
        with (
            self.stages.stage("prove", f"Asking fp32 {len(probes)} times"),
            self.open_graphs(self.source.path, self.files) as graphs,
        ):
            keep_answers(probes, graphs.run, self.answers, self.cancel)

    def try_each(
        self, ways: tuple[Recipe, ...], probes: tuple[Probe, ...]
    ) -> tuple[Recipe, _Made, dict[str, float], tuple[str, ...]]:
        """The first recipe within the limits, or else the last one; what lies in the output folder is that one's."""
        for recipe in ways:
            made = self.make(recipe)
            loss, found = self.measure(probes)
            if not found:
                break
            if recipe is not ways[-1]:
                self.stages.warn(f"{recipe.name} of {self.source.id} is too coarse: {'; '.join(found)}")
        return recipe, made, loss, found

    def make(self, recipe: Recipe) -> _Made:
        """Run the quantizer."""
        request = {
            "command": "reduce",
            "source": str(self.source.path),
            "output": str(self.output),
            "graphs": self.files,
            "recipe": dict(recipe.values),
        }
        events: list[Mapping[str, Any]] = []
        extra: dict[str, Any] = {} if self.memory_limit is None else {"memory_limit": self.memory_limit}
        with self.stages.stage("convert", f"Reducing to {self.precision}") as done:
            command = launch_command(sys.executable, QUANTIZER)
            end = converse(command, request, log=self.log, on_event=events.append, cancel=self.cancel, **extra)
            last = events[-1] if events else {}
            if last.get("event") == "failure":
                raise self._failure(last)
            if last.get("event") != "result" or end.code != 0:
                raise self._crash(end)
            done(f"reduced by {recipe.name}")
        return _Made(last["graphs"], last["versions"], last.get("peak_rss"))

    def measure(self, probes: tuple[Probe, ...]) -> tuple[dict[str, float], tuple[str, ...]]:
        """The loss, and what of it is too much."""
        with self.stages.stage("prove", "Comparing with fp32") as done:
            try:
                with self.open_graphs(self.output, self.files) as graphs:
                    loss = measure_loss(self.source, probes, graphs.run, self.answers, self.cancel)
            except ProofError as exc:  # no number can tell: an overflow, an answer that is not there
                return {}, (exc.message,)
            done(", ".join(f"{name} {value:.4g}" for name, value in loss.items()))
        return loss, tuple(violations(loss, self.precision))

    def keep_cases(self) -> tuple[ProofCase, ...]:
        """Write the source's cases with the reduced graphs' answers, and replay them once from the files' content."""
        kept = []
        with self.open_graphs(self.output, self.files) as graphs:
            for case in kept_cases(self.source):
                self.cancel.check()
                own = with_outputs_of(case, graphs.run)
                write_case(own, self.output / FOLDER / f"{case.name}.npz")
                kept.append(compare(own, graphs.run, find_precision(self.precision).replay_tolerance, kept=True))
        return tuple(kept)

    def _failure(self, failure: Mapping[str, Any]) -> GpuxError:
        kind = error_types().get(failure["code"], ConversionError)
        message = f"{self.source.id} cannot be reduced to {self.precision}: {failure['message']}"
        hint = failure.get("hint") or f"The whole output: {self.log}"
        return kind(message, hint=hint, log=self.log, model=self.source.id)

    def _crash(self, end: Exit) -> WorkerCrashedError:
        last = tail(self.log)
        message = f"reducing {self.source.id} to {self.precision} {end} without a result"
        return WorkerCrashedError(
            f"{message}; its last words:\n{last}" if last else message,
            hint=f"The whole output: {self.log}",
            log=self.log,
            signal=end.signal,
        )
