"""Measure generation against the bare graph and against other runtimes with the same weights. ``./dev bench`` runs it.

    python -m scripts.bench_generation --genai PYTHON --rounds 12
    python -m scripts.bench_generation --folder DIR --only 'llama-100m/fp32/32x1' '*/deep'

Greedy, 64 tokens, without an end token, from random token ids. All contenders alternate in one run, each peer in its
own process and environment, with as many threads as gpux; a reported ratio is the median of the ratios of all rounds,
with the smallest and the largest. ``--folder`` keeps the models for the next run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from gpux import Settings
from gpux.convert.registry import find_toolchain
from gpux.system.machine import cpu_threads
from scripts.bench_generation_cases import (
    CASES,
    WARM,
    Case,
    Field,
    Rounds,
    Run,
    alternate,
    field_of,
    prompts,
    race,
    ratio,
)
from scripts.bench_generation_models import Models

STEP, FIRST, BATCH, DEEP, FLAT = 1.05, 1.05, 4.5, 0.95, 1_000_000
CONTEXT, ROOM, TOKENS = 4000, 256, 202  #: prompt and free tokens of the long context; new tokens of the memory check
EXTRAS = {
    "llama-100m/fp32/batch": "batch",
    "llama-100m-8k/fp32/deep": "deep",
    "llama-100m-8k/fp32/memory": "memory",
}
INTRODUCTION = (
    "Greedy, 64 new tokens from random token ids, no end token; the models have real shapes and random weights. Every "
    "process generates {warm} tokens before the measurement, so that all are warmed up as in a service or a long chat. "
    "All contenders alternate in one run, {threads} threads each; a ratio is the median of the ratios of all rounds "
    "(smallest to largest), and the best round follows each median. `speed`: tokens per second of all rows, from the "
    "call to the last token; goals are for one prompt of 32. `step`: the median step after the first token."
)
PEERS = (
    "| model | prompt × rows | peer | gpux, tokens/s | peer, tokens/s | speed ratio "
    "| goal | step ratio | first token ratio | peer's tokens |"
)
GRAPH = (
    "| model | prompt × rows | step | bound loop | step / bound | goal | first / bound "
    "| goal | copying loop / step | goal | pipeline / engine | outside onnxruntime |"
)
MORE = "| what | measured | goal |"


@dataclass
class Tables:
    """The table rows collected so far."""

    peers: list[str] = field(default_factory=list)
    graph: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [
            ("Compared with other runtimes", PEERS, self.peers),
            ("Compared with the bare graph on onnxruntime", GRAPH, self.graph),
            ("Further measurements", MORE, self.more),
        ]
        return "\n\n".join(
            f"### {title}\n\n" + "\n".join([header, "|" + "---|" * header.count(" |"), *lines])
            for title, header, lines in parts
            if lines
        )


def main() -> int:
    """Run the cases and print the tables; returns 1 when a goal is missed."""
    arguments = _parser().parse_args()
    toolchain = find_toolchain("optimum", Settings.from_env())
    toolchain.check_ready()
    tables = Tables()
    with tempfile.TemporaryDirectory(prefix="gpux-bench-generation-") as name:
        models = Models(Path(arguments.folder or name).resolve(), toolchain.python, arguments.genai, cpu_threads())
        chosen = [case for case in CASES if _wanted(case.name, arguments.only)]
        for model in dict.fromkeys(case.model for case in chosen):
            with field_of(models, Path(name), arguments.skip) as contenders:
                for case in chosen:
                    if case.model == model:
                        measure(contenders, case, arguments.rounds, tables)
        with field_of(models, Path(name), arguments.skip) as contenders:
            for what in (EXTRAS[extra] for extra in EXTRAS if _wanted(extra, arguments.only)):
                tables.more += _logged(EXTRA[what](contenders, arguments.rounds))
    text = f"{INTRODUCTION.format(threads=cpu_threads(), warm=WARM)}\n\n{tables}"
    print(text)
    if arguments.append:
        with Path(arguments.append).open("a", encoding="utf-8") as page:
            page.write(f"\n## Text generation\n\n{text}\n")
    return 1 if "missed" in text else 0


def measure(contenders: Field, case: Case, rounds: int, tables: Tables) -> None:
    """Measure one case and add its rows to both tables."""
    print(f"{case.name}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    found = race(contenders, case, rounds)
    outside = contenders.gpux(case.model, case.precision).call("outside", prompts=case.prompts, new=64)
    for name in contenders.peers(case):
        tables.peers += _logged([peer_line(case, name, found)])
    tables.graph += _logged([graph_line(case, found, outside)])


def peer_line(case: Case, name: str, found: Rounds) -> str:
    """The row that compares gpux with one peer."""
    ours, theirs = found["engine"], found[name]
    speed = ratio(ours, theirs, lambda run: run.speed)
    cells = (
        *_case(case),
        f"{name}{' fp32' if name == 'torch' and case.precision != 'fp32' else ''}",
        speeds(ours),
        speeds(theirs),
        f"{speed} ×",
        at_least(speed.median, case.peers[name]),
        f"{ratio(theirs, ours, lambda run: run.step)} ×",
        f"{ratio(theirs, ours, lambda run: run.first)} ×",
        difference(ours[0], theirs[0]) if case.precision == "fp32" else "",
    )
    return f"| {' | '.join(cells)} |"


def graph_line(case: Case, found: Rounds, outside: dict[str, float]) -> str:
    """The row that compares gpux with the bare loops over its graph."""
    engine, bound, copying = (found[name] for name in ("engine", "bound", "copying"))
    step, first = ratio(engine, bound, lambda run: run.step), ratio(engine, bound, lambda run: run.first)
    gain = ratio(copying, engine, lambda run: run.step)
    same = {difference(engine[0], other[0]) for other in (bound, copying)}
    cells = (
        *_case(case),
        steps(engine),
        f"{steps(bound)}{'' if same == {'same'} else f', {same}'}",
        str(step),
        at_most(step.median, STEP),
        str(first),
        at_most(first.median, FIRST),
        f"{gain} ×",
        at_least(gain.median, case.copying),
        f"{ratio(engine, found['pipeline'], lambda run: run.stamps[-1]).median:.2f}",
        f"{outside['engine']:.0f} µs, bare {outside['bare']:.0f} µs",
    )
    return f"| {' | '.join(cells)} |"


def batch(contenders: Field, rounds: int) -> Iterator[str]:
    """Throughput of eight rows relative to one."""
    gpux = contenders.gpux("llama-100m", "fp32")
    entries = {f"{rows}": partial(gpux.call, "engine", prompts=prompts(32, rows)) for rows in (1, 8)}
    found = alternate(entries, rounds)
    gain = ratio(found["8"], found["1"], lambda run: len(run.tokens) / run.step)
    yield f"| llama-100m, fp32: tokens/s of 8 rows / of 1, prompts of 32 | {gain} | {at_least(gain.median, BATCH)} |"


def deep(contenders: Field, rounds: int) -> Iterator[str]:
    """Speed at the end of a long context whose prompt is in the cache of both loops."""
    gpux = contenders.gpux("llama-100m-8k", "fp32")
    given = {"prompts": prompts(CONTEXT, 1), "room": ROOM}
    entries = {how: partial(gpux.call, f"{how}_again", **given) for how in ("engine", "bound")}
    found = alternate(entries, rounds)
    speed = ratio(found["bound"], found["engine"], lambda run: run.step)
    both = " / ".join(steps(found[how]) for how in entries)
    what = f"llama-100m, 8,192 positions, fp32: decoding at {CONTEXT:,} tokens, gpux / bound loop; a step: {both}"
    yield f"| {what} | {speed} | {at_least(speed.median, DEEP)} |"


def memory(contenders: Field, rounds: int) -> Iterator[str]:
    """Growth of the process's resident memory over 200 tokens."""
    found = contenders.gpux("llama-100m-8k", "fp32").call("memory", prompts=prompts(CONTEXT, 1), new=TOKENS)
    first, second = (after - before for before, after in found["resident"])
    goal = f"≤ {FLAT / 1e6:g} MB {'met' if second <= FLAT else 'missed'}"
    yield (
        f"| the same: resident memory, from token 2 to token {TOKENS} | {second / 1e6:.2f} MB; the first time "
        f"{first / 1e6:.2f} MB, when the cache's own {found['cache'] / 1e6:.2f} MB are first written | {goal} |"
    )


EXTRA: dict[str, Callable[[Field, int], Iterator[str]]] = {"batch": batch, "deep": deep, "memory": memory}


def difference(ours: Run, theirs: Run) -> str:
    """``same``, or how many rows differ and the first token that does."""
    places = [
        next((step for step, pair in enumerate(zip(*rows, strict=True)) if pair[0] != pair[1]), None)
        for rows in zip(ours.tokens, theirs.tokens, strict=True)
    ]
    wrong = [(step, row) for row, step in enumerate(places) if step is not None]
    return f"differ in {len(wrong)} of {len(places)} rows, first at token {min(wrong)[0] + 1}" if wrong else "same"


def speeds(runs: list[Run]) -> str:
    """Tokens per second: the median, and the best round."""
    found = [run.speed for run in runs]
    return f"{statistics.median(found):.0f} (best {max(found):.0f})"


def steps(runs: list[Run]) -> str:
    """Milliseconds of a step: the median, and the best round."""
    found = [1e3 * run.step for run in runs]
    return f"{statistics.median(found):.2f} ms (best {min(found):.2f})"


def at_least(value: float, goal: float | None) -> str:
    """The goal of a minimum, and whether it was met."""
    return "" if goal is None else f"≥ {goal:g} {'met' if value >= goal else 'missed'}"


def at_most(value: float, goal: float) -> str:
    """The goal of a maximum, and whether it was met."""
    return f"≤ {goal:g} {'met' if value <= goal else 'missed'}"


def _case(case: Case) -> tuple[str, str]:
    return f"{case.model}, {case.precision}", f"{case.prompt:,} × {case.batch}"


def _logged(lines: Iterator[str] | list[str]) -> list[str]:
    found = list(lines)
    print("\n".join(found), file=sys.stderr, flush=True)
    return found


def _wanted(name: str, only: list[str] | None) -> bool:
    return not only or any(fnmatch(name, pattern) for pattern in only)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench_generation", description=(__doc__ or "").splitlines()[0]
    )
    names = ", ".join([*(case.name for case in CASES), *EXTRAS])
    parser.add_argument("--genai", type=Path, metavar="PYTHON", help="an interpreter with bench_generation_genai.txt")
    parser.add_argument("--only", nargs="+", metavar="CASE", help=f"run only these cases, * matches any part: {names}")
    parser.add_argument("--skip", nargs="+", default=[], metavar="PEER", help="leave out torch, optimum or genai")
    parser.add_argument("--rounds", type=int, default=12, help="rounds for short prompts; long ones get half")
    parser.add_argument("--folder", type=Path, help="where models are kept (default: a temporary folder)")
    parser.add_argument("--append", metavar="PAGE", help="append the tables to this Markdown file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
