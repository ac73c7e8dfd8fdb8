"""Measure vectors and ranks of texts against sentence-transformers with torch and fastembed. ``./dev bench`` runs it.

Every contender is a process that keeps its model loaded; they take turns in every round, and a ratio is the median of
the ratios of the rounds, so that other work on the machine affects both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tests.models.minilm import minilm_repository

from gpux import Settings, pull_model
from gpux.convert.registry import find_toolchain

PEER = Path(__file__).parent / "bench_encode_peer.py"
ROUNDS, COUNT = 5, 2048
#: Batch sizes of fastembed: small ones have little padding, as it does not sort texts; its default is 256.
BATCHES = (16, 32)
HEADER = "| what | gpux | peer | ratio of wall times | of processor times | goal |\n|---|---|---|---|---|---|"
INTRODUCTION = (
    "Written by `python -m scripts.bench_encode --fastembed PYTHON`. Every contender keeps its model loaded, and all "
    "take turns in each of {rounds} rounds; times are medians, and a ratio is the median of the ratios of the rounds, "
    "with the smallest and the largest. Processor times hold when other work shares the machine. {machine} The model "
    "is all-MiniLM-L6-v2; the {count:,} texts have 5 to 80 words, the ranked passages 30 to 100; the cross-encoder has "
    "the same shape and a random last layer."
)


class Contender:
    """A process of ``bench_encode_peer.py``."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, task: str) -> dict[str, float]:
        """The answer to one task."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(task, file=self._process.stdin, flush=True)
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found


@contextmanager
def contender(python: str | Path, kind: str, folder: Path, count: int, env: Mapping[str, str]) -> Iterator[Contender]:
    """Start a contender; ends it at the end of the context."""
    with subprocess.Popen(
        [str(python), str(PEER), kind, str(folder), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(env),
    ) as process:
        try:
            yield Contender(process)
        finally:
            process.kill()


def main() -> int:
    """Print the table; returns 1 when a goal is missed."""
    arguments = _parser().parse_args()
    toolchain = find_toolchain("optimum", Settings.from_env())
    toolchain.check_ready()
    with tempfile.TemporaryDirectory(prefix="gpux-bench-encode-") as name, ExitStack() as stack:
        folder = Path(name)
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "GPUX_HOME": str(folder / "home")}
        env["GPUX_TOOLCHAINS"] = str(toolchain.path.parent)
        os.environ.update(env)
        source = minilm_repository(folder / "minilm", onnx=False)
        cross = cross_encoder(source, folder / "cross")
        stored = pull_model(source, convert=True)
        pull_model(f"{source}:int8")
        pull_model(cross, convert=True)
        for_fastembed = shutil.copytree(stored.path, folder / "fastembed")
        for name_of_file in ("tokenizer_config.json", "special_tokens_map.json", "config.json"):
            shutil.copyfile(source / name_of_file, for_fastembed / name_of_file)
        started = {
            name: stack.enter_context(contender(python, kind, where, arguments.count, env))
            for name, python, kind, where in (
                ("gpux", sys.executable, "gpux", source),
                ("int8", sys.executable, "gpux", Path(f"{source}:int8")),
                ("torch", toolchain.python, "sentence-transformers", source),
                *((f"fastembed {size}", arguments.fastembed, f"fastembed:{size}", for_fastembed) for size in BATCHES),
                ("cross gpux", sys.executable, "cross-gpux", cross),
                ("cross torch", toolchain.python, "cross-sentence-transformers", cross),
            )
            if python
        }
        lines = measure(started, stored.path, arguments.rounds, folder, f"{arguments.count:,} texts")
    table = "\n".join([HEADER, *lines])
    introduction = INTRODUCTION.format(rounds=arguments.rounds, machine=arguments.note, count=arguments.count)
    print(f"{introduction}\n\n{table}")
    if arguments.append:
        with Path(arguments.append).open("a", encoding="utf-8") as page:
            page.write(f"\n## Vectors and ranks of texts\n\n{introduction}\n\n{table}\n")
    return 1 if "missed" in table else 0


def measure(started: Mapping[str, Contender], variant: Path, rounds: int, folder: Path, texts: str) -> list[str]:
    """The lines of the table."""
    tasks = {name: "rank" if name.startswith("cross") else "many" for name in started}
    for name, one in started.items():
        one.ask(tasks[name])  # warmed up
    found: dict[str, list[dict[str, float]]] = {name: [] for name in started}
    ones = []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for name, one in started.items():
            found[name].append(one.ask(tasks[name]))
        ones.append(started["gpux"].ask(f"alternate {variant}"))
    for name in ("gpux", "int8", "torch"):
        started[name].ask(f"save {folder / name}.npy")
    vectors = {name: np.load(folder / f"{name}.npy") for name in ("gpux", "int8", "torch")}
    lines = [
        _line(f"{texts}, torch", found["gpux"], found["torch"], 2.5),
        _line(f"{texts} in int8, torch in fp32", found["int8"], found["torch"], 4.5),
    ]
    peers = [name for name in started if name.startswith("fastembed")]
    best = min(peers, key=lambda name: statistics.median(run["cpu"] for run in found[name]), default=None)
    for name in peers:
        what = f"{texts}, {name.replace(' ', ' with batches of ')}"
        lines.append(_line(what, found["gpux"], found[name], 2.2 if name == best else None))
    lines.append(_line("100 passages ranked, torch", found["cross gpux"], found["cross torch"], 2.5))
    ratios = [run["ours"] / run["bare"] for run in ones]
    ours, bare = (statistics.median(run[side] for run in ones) for side in ("ours", "bare"))
    ratio = statistics.median(ratios)
    lines.append(
        f"| one text of 11 words, tokenizer and `session.run` | {1000 * ours:.2f} ms | {1000 * bare:.2f} ms "
        f"| {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |  | ≤ 1.15 {'met' if ratio <= 1.15 else 'missed'} |"
    )
    for name in ("gpux", "int8"):
        cosine = (vectors[name] * vectors["torch"]).sum(axis=1).min()
        lines.append(f"| smallest cosine to torch, {'fp32' if name == 'gpux' else name} | {cosine:.7f} |  |  |  |  |")
    return lines


def cross_encoder(source: Path, folder: Path) -> Path:
    """A cross-encoder of the same shape, with a random last layer."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("modules.json", "*_sentence_*", "sentence_*", "1_*"))
    config = json.loads((folder / "config.json").read_text())
    labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    config |= {"architectures": ["BertForSequenceClassification"], **labels}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("---\npipeline_tag: text-ranking\n---\n")
    draw = np.random.default_rng(0)
    head = {
        "classifier.weight": draw.normal(0, 0.02, (1, config["hidden_size"])).astype(np.float32),
        "classifier.bias": np.zeros(1, np.float32),
    }
    body = {
        f"bert.{name}": array
        for name, array in load_file(source / "model.safetensors").items()
        if "position_ids" not in name
    }
    (folder / "model.safetensors").unlink()
    save_file({**body, **head}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _line(what: str, ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]], goal: Any) -> str:
    pairs = list(zip(ours, theirs, strict=True))
    wall, cpu = ([peer[kind] / own[kind] for own, peer in pairs] for kind in ("wall", "cpu"))
    middle = statistics.median
    reached = "" if goal is None else f"≥ {goal} {'met' if middle(wall) >= goal else 'missed'}"
    cells = (
        what,
        f"{middle(run['wall'] for run in ours):.2f} s",
        f"{middle(run['wall'] for run in theirs):.2f} s",
        f"{middle(wall):.2f} ({min(wall):.2f} to {max(wall):.2f}) ×",
        f"{middle(cpu):.2f} ×",
        reached,
    )
    return f"| {' | '.join(cells)} |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench_encode", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--count", type=int, default=COUNT, help="texts that are encoded together")
    parser.add_argument("--fastembed", help="interpreter of an environment with fastembed; without it, it is left out")
    parser.add_argument("--note", default="", help="a sentence about the machine for the page")
    parser.add_argument("--append", help="append the table to this Markdown file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
