"""Measure what the proof of answers adds to a pull, with and without it alternately. ``./dev bench`` runs it.

Without it, the worker computes no reference answers, and the pipeline is not opened before the variant is stored.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from gpux.convert.registry import find_toolchain
from gpux.system.settings import Settings
from scripts.bench_convert import CASES, ROOT, models
from scripts.measured import Run, measure

ROUNDS = 5
SECONDS, SHARE, MEMORY = 2.0, 1.15, 1.05  #: goals: at most 2 s or 15 % more, whichever is more; 5 % more memory
HEADER = "| model | without | with | more | goal | peak memory without, with | ratio | goal |"
INTRODUCTION = (
    "Whole pulls of a local folder with and without the proof of answers, alternately; medians, and of `more` and "
    "`ratio` the median over the rounds. Memory is the peak of the summed resident memory of all processes."
)


def main() -> int:
    """Print the table; returns 1 when a goal is missed."""
    arguments = _parser().parse_args()
    if arguments.pull:
        _pull(Path(arguments.pull[0]), arguments.pull[1], answers=arguments.pull[2] == "with")
        return 0
    toolchain = find_toolchain("optimum", Settings.from_env())
    toolchain.check_ready()
    with tempfile.TemporaryDirectory(prefix="gpux-bench-answers-") as name:
        folder = Path(name)
        lines = [HEADER, f"|{'---|' * 8}"]
        for model, source in models(folder, ["MiniLM", "llama-100m"], toolchain.python):
            rounds = [_pair(source, CASES[model][0], folder, toolchain.python) for _ in range(arguments.rounds)]
            lines.append(_line(model, rounds))
            print(lines[-1], flush=True)
    table = "\n".join(lines)
    print(table)
    if arguments.append:
        with Path(arguments.append).open("a", encoding="utf-8") as page:
            page.write(f"\n## The proof of answers\n\n{INTRODUCTION}\n\n{table}\n")
    return 1 if "missed" in table else 0


def _pair(source: Path, task: str, folder: Path, python: Path) -> tuple[Run, Run]:
    """One pull without and one with the proof of answers, each into an empty home."""
    home = folder / "home"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "GPUX_HOME": str(home), "GPUX_TOOLCHAINS": str(python.parents[2])}
    runs = []
    for kind in ("without", "with"):
        command = [sys.executable, "-m", "scripts.bench_answers", "--pull", str(source), task, kind]
        try:
            runs.append(measure(command, env, ROOT))
        finally:
            shutil.rmtree(home, ignore_errors=True)
    return runs[0], runs[1]


def _pull(source: Path, task: str, *, answers: bool) -> None:
    from gpux.pull import build  # here, so that the process that measures stays small
    from gpux.pull.api import pull_model

    if not answers:
        build_any: Any = build
        build_any.ConversionRequest = partial(build_any.ConversionRequest, answers=False)
        build_any._with_answers = lambda context, staging, manifest, *_: manifest
    model = pull_model(source, task=task, convert=True)
    proof = model.manifest.proof.answers
    if answers != (proof is not None and proof.status == "proven"):
        raise SystemExit(f"the proof of answers is {proof}, and was measured as {'made' if answers else 'left out'}")


def _line(model: str, rounds: Sequence[tuple[Run, Run]]) -> str:
    middle = statistics.median
    seconds = [middle(pair[side].seconds for pair in rounds) for side in (0, 1)]
    memory = [middle(pair[side].peak_rss for pair in rounds) / 1e6 for side in (0, 1)]
    more = middle(pair[1].seconds - pair[0].seconds for pair in rounds)
    share = middle(pair[1].seconds / pair[0].seconds for pair in rounds)
    ratio = middle(pair[1].peak_rss / pair[0].peak_rss for pair in rounds)
    fast = more <= SECONDS or share <= SHARE
    cells = (
        model,
        f"{seconds[0]:.1f} s",
        f"{seconds[1]:.1f} s",
        f"{more:.2f} s = {share - 1:.0%}",
        f"≤ {SECONDS:g} s or {SHARE - 1:.0%} {'met' if fast else 'missed'}",
        f"{memory[0]:,.0f} MB, {memory[1]:,.0f} MB",
        f"{ratio:.3f}",
        f"≤ {MEMORY} {'met' if ratio <= MEMORY else 'missed'}",
    )
    return f"| {' | '.join(cells)} |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench_answers", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="pulls of each side")
    parser.add_argument("--append", help="append the table to this Markdown file")
    parser.add_argument("--pull", nargs=3, metavar=("DIR", "TASK", "KIND"), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
