"""Measure continuous batching: streams at once against one stream, and against the engine's static batch.

    python -m scripts.bench_batching --folder DIR --rounds 7

llama-100m in fp32 and int4, prompts of 32 tokens, 128 new tokens, greedy. All contenders use one session of one process
and alternate within a round, so that the load of the machine affects them alike; a ratio is the median of the ratios
of all rounds, with the smallest and the largest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gpux import Settings, pipeline
from gpux.convert.registry import find_toolchain
from gpux.model.variant import StoredModel
from gpux.pipelines.generation.concurrent import ConcurrentGenerator
from gpux.pipelines.generation.text_generation import TextGenerationPipeline
from gpux.store import MANIFEST, read_manifest
from gpux.system.machine import cpu_threads
from scripts.bench_generation_cases import REST, SETTLE, Ratio
from scripts.bench_generation_models import Models

PROMPT, NEW, STREAMS = 32, 128, 8
WARM = 640  #: tokens before the measurement, after which gpux has moved the weights to huge pages
#: precision -> tokens/s of all streams relative to one stream, at least
SPEEDUP = {"fp32": 4.0, "int4": 2.0}
STATIC = 0.9  #: tokens/s of the streams relative to the static batch, at least
BETWEEN = 1.3  #: p95 of the time between two tokens of a stream, in steps of the static batch, at most
OVERHEAD = 0.3  #: ms of a step outside onnxruntime, at most
HEADER = (
    "| model | tokens/s of 1 stream | of 8 streams | of the static batch | 8 streams / 1 | goal | 8 streams / static "
    "| goal | p95 between tokens / static step | goal | of the worst stream | of the static batch itself "
    "| outside onnxruntime | goal |"
)


@dataclass
class Run:
    """One generation by one contender."""

    tokens: int
    seconds: float
    between: list[list[float]] = field(default_factory=list)  #: seconds between the tokens of each stream

    @property
    def speed(self) -> float:
        """Tokens per second of all rows, from the call to the last token."""
        return self.tokens / self.seconds

    def step(self) -> float:
        """The median seconds between tokens."""
        return float(np.median(np.concatenate(self.between)))

    def percentile(self) -> float:
        """The 95th percentile of the time between tokens, of all streams together."""
        return float(np.percentile(np.concatenate(self.between), 95))

    def worst(self) -> float:
        """The 95th percentile of the stream that has the largest."""
        return max(float(np.percentile(one, 95)) for one in self.between)


class Contenders:
    """One pipeline and its generator."""

    def __init__(self, variant: Path, threads: int) -> None:
        model = StoredModel(variant, read_manifest(variant / MANIFEST))
        opened = pipeline("text-generation", model=model, device="cpu", threads=threads)
        assert isinstance(opened, TextGenerationPipeline)
        self.pipe: TextGenerationPipeline = opened
        self.generator: ConcurrentGenerator = opened.concurrent(max_rows=STREAMS)
        assert self.generator.batches
        self.options: dict[str, Any] = {"max_new_tokens": NEW, "eos_token_id": (), "reuse_prefix": False}

    def static(self, rows: int) -> Run:
        """The engine's static batch, as ``pipe.generate`` runs it; the moment of each step is that of its first row."""
        stamps: list[float] = []
        began = time.perf_counter()
        call = self.pipe.resolve({**self.options, "batch_size": rows})
        read = self.pipe.preprocess(prompts(rows), call)
        writing = self.pipe._written(read, range(rows), call)
        try:
            while True:
                if (piece := next(writing)).number == 0:
                    stamps += [time.perf_counter()] * len(piece.tokens[:1])
        except StopIteration as end:
            found = end.value
        seconds = time.perf_counter() - began
        return Run(sum(len(one.tokens) for one in found), seconds, between=[np.diff(stamps).tolist()])

    def streams(self, rows: int) -> Run:
        """Streams that are requested at once; each token's moment is noted in the scheduler's thread."""
        stamps: list[list[float]] = [[] for _ in range(rows)]
        done: list[Any] = []
        began = time.perf_counter()

        def noting(row: int) -> Callable[[Any], None]:
            return lambda piece: stamps[row].extend(time.perf_counter() for _ in piece.tokens[:1])

        for row, prompt in enumerate(prompts(rows)):
            self.generator.submit(prompt, on_piece=noting(row), on_done=done.append, **self.options)
        while len(done) < rows:
            time.sleep(0.002)
        seconds = time.perf_counter() - began
        tokens = sum(len(one.tokens) for each in done for one in each)
        return Run(tokens, seconds, between=[np.diff(row).tolist() for row in stamps])

    def outside(self) -> float:
        """Median milliseconds of a step of all streams outside onnxruntime."""
        timed = _Timed(self.pipe.session._session)
        caller = self.generator._scheduler._stepper.binding  # type: ignore[union-attr]
        session, caller._session = caller._session, timed
        try:
            run = self.streams(STREAMS)
        finally:
            caller._session = session
        whole = np.array(run.between[-1])
        inside = np.array(timed.seconds[-len(whole) :])
        return float(np.median(whole - inside)) * 1e3

    def close(self) -> None:
        """Free the model."""
        self.generator.close()
        self.pipe.close()


class _Timed:
    """A session that records the seconds of its bound runs."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.seconds: list[float] = []

    def run_with_iobinding(self, *arguments: Any) -> None:
        """Run the session and record the seconds."""
        began = time.perf_counter()
        self._session.run_with_iobinding(*arguments)
        self.seconds.append(time.perf_counter() - began)


def prompts(rows: int) -> list[str]:
    """Texts of :data:`PROMPT` tokens: the benchmark's tokenizer encodes a letter as a token."""
    made = [np.random.default_rng(row).integers(0, 26, PROMPT) for row in range(rows)]
    return ["".join(chr(97 + letter) for letter in letters) for letters in made]


def measure(name: str, precision: str, variant: Path, rounds: int, threads: int) -> str:
    """The table's row of one model."""
    contenders = Contenders(variant, threads)
    try:
        for _ in range(-(-WARM // (NEW * STREAMS))):
            contenders.static(STREAMS)
            contenders.streams(STREAMS)
        time.sleep(SETTLE)
        entries: dict[str, Callable[[], Run]] = {
            "one": partial(contenders.streams, 1),
            "streams": partial(contenders.streams, STREAMS),
            "static": partial(contenders.static, STREAMS),
        }
        found: dict[str, list[Run]] = {entry: [] for entry in entries}
        for number in range(rounds):
            names = list(entries) if number % 2 else list(reversed(entries))
            for entry in names:
                time.sleep(REST)
                found[entry].append(entries[entry]())
        outside = contenders.outside()
    finally:
        contenders.close()
    return _line(name, precision, found, outside)


def _line(name: str, precision: str, found: dict[str, list[Run]], outside: float) -> str:
    one, streams, static = found["one"], found["streams"], found["static"]
    gain = _ratio([run.speed for run in streams], [run.speed for run in one])
    held = _ratio([run.speed for run in streams], [run.speed for run in static])
    between = _ratio([run.percentile() for run in streams], [run.step() for run in static])
    worst = _ratio([run.worst() for run in streams], [run.step() for run in static])
    own = _ratio([run.percentile() for run in static], [run.step() for run in static])
    speeds = (f"{statistics.median(run.speed for run in runs):.0f}" for runs in (one, streams, static))
    cells = (
        f"{name}, {precision}",
        *speeds,
        str(gain),
        _goal("≥", SPEEDUP[precision], gain.median >= SPEEDUP[precision]),
        str(held),
        _goal("≥", STATIC, held.median >= STATIC),
        str(between),
        _goal("≤", BETWEEN, between.median <= BETWEEN),
        str(worst),
        str(own),
        f"{outside:.2f} ms",
        _goal("≤", OVERHEAD, outside <= OVERHEAD),
    )
    return f"| {' | '.join(cells)} |"


def _ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    return Ratio(tuple(one / other for one, other in zip(above, below, strict=True)))


def _goal(sign: str, goal: float, met: bool) -> str:
    return f"{sign} {goal:g} {'met' if met else 'missed'}"


def main() -> int:
    """Measure both precisions and print the table; returns 1 when a goal is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench_batching", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="where models are kept (default: a temporary folder)")
    parser.add_argument("--precision", nargs="+", choices=SPEEDUP, default=list(SPEEDUP))
    arguments = parser.parse_args()
    toolchain = find_toolchain("optimum", Settings.from_env())
    toolchain.check_ready()
    with tempfile.TemporaryDirectory(prefix="gpux-bench-batching-") as name:
        models = Models(Path(arguments.folder or name).resolve(), toolchain.python, None, cpu_threads())
        lines = []
        for precision in arguments.precision:
            variant = models.variant("llama-100m", precision)
            lines.append(measure("llama-100m", precision, variant, arguments.rounds, cpu_threads()))
            print(lines[-1], file=sys.stderr, flush=True)
    table = "\n".join([HEADER, "|" + "---|" * (HEADER.count("|") - 1), *lines])
    print(table)
    return 1 if "missed" in table else 0


if __name__ == "__main__":
    sys.exit(main())
