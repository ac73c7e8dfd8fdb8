"""Measure image-classification against transformers with torch: files in, labels out. ``./dev bench`` runs it.

The model has the shape of ViT-base and random weights. Both sides have two threads, read the same JPEG files, and
resize with Pillow. They alternate call by call.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from gpux.convert.registry import find_toolchain
from gpux.pull.api import pull_model
from gpux.system.settings import Settings

ROOT = Path(__file__).parent.parent
PEER = ROOT / "scripts" / "bench_vision_peer.py"
THREADS, ROUNDS = 2, 5
GOAL = 1.8  #: speed relative to transformers with torch
SIZES = (1, 16)
HEADER = "| pictures of a call | transformers | gpux | speed | range | by processor time | goal |"
INTRODUCTION = (
    '`pipeline("image-classification")` on JPEG files of 640 × 480: opened, resized by Pillow, run and labelled, by '
    "gpux and by transformers with torch, two threads each, alternately; medians, and of the speeds the median over "
    "the rounds. The model has the shape of ViT-base (86 million parameters) and random weights."
)
_BUILD = """
import sys, torch
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor
torch.manual_seed(0)
ViTForImageClassification(ViTConfig(num_labels=1000)).save_pretrained(sys.argv[1])
ViTImageProcessor().save_pretrained(sys.argv[1])
"""

#: Seconds of the wall clock, and of the processor.
Times = tuple[float, float]


def main() -> int:
    """Print the table; returns 1 when a goal is missed."""
    arguments = _parser().parse_args()
    toolchain = find_toolchain("optimum", Settings.from_env())
    toolchain.check_ready()
    with tempfile.TemporaryDirectory(prefix="gpux-bench-vision-") as name:
        folder = Path(name)
        model = folder / "vit-base"
        subprocess.run([toolchain.python, "-c", _BUILD, model], check=True, capture_output=True)
        files = [_picture(folder / f"{number}.jpg", number) for number in range(max(SIZES))]
        env = {**os.environ, "GPUX_HOME": str(folder / "home"), "GPUX_TOOLCHAINS": str(toolchain.python.parents[2])}
        pull_model(str(model), settings=Settings.from_env(env))
        lines = [HEADER, f"|{'---|' * 7}"]
        with (
            _peer(toolchain.python, "transformers", model, env) as theirs,
            _peer(Path(sys.executable), "gpux", model, env) as ours,
        ):
            for size in SIZES:
                rounds = []
                for _ in range(arguments.rounds + 1):  # the first one warms up
                    rounds.append((_call(theirs, files[:size]), _call(ours, files[:size])))
                lines.append(_line(size, rounds[1:]))
                print(lines[-1], flush=True)
    table = "\n".join(lines)
    print(table)
    if arguments.append:
        with Path(arguments.append).open("a", encoding="utf-8") as page:
            page.write(f"\n## Pictures\n\n{INTRODUCTION}\n\n{table}\n")
    return 1 if "missed" in table else 0


@contextmanager
def _peer(python: Path, name: str, model: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process with an opened pipeline."""
    command = [str(part) for part in (python, PEER, name, model, THREADS)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=env) as process:
        if _pipe(process.stdout).readline().strip() != "ready":
            raise SystemExit(f"{name} did not open the model")
        yield process
        _pipe(process.stdin).close()


def _call(process: subprocess.Popen[str], files: Sequence[str]) -> Times:
    print(json.dumps([files, len(files)]), file=_pipe(process.stdin), flush=True)
    wall, busy = _pipe(process.stdout).readline().split()
    return float(wall), float(busy)


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise SystemExit("the process has no pipe")
    return stream


def _picture(file: Path, seed: int) -> str:
    """A JPEG file with blocks of colours and noise."""
    random = np.random.default_rng(seed)
    blocks = np.kron(random.integers(0, 255, (15, 20, 3)), np.ones((32, 32, 1)))
    Image.fromarray(np.clip(blocks + random.normal(0, 8, blocks.shape), 0, 255).astype(np.uint8)).save(file, quality=90)
    return str(file)


def _line(size: int, rounds: Sequence[tuple[Times, Times]]) -> str:
    speeds = [theirs[0] / ours[0] for theirs, ours in rounds]
    busy = statistics.median(theirs[1] / ours[1] for theirs, ours in rounds)
    seconds = [statistics.median(pair[side][0] for pair in rounds) for side in (0, 1)]
    speed = statistics.median(speeds)
    cells = (
        str(size),
        f"{seconds[0] * 1000:,.0f} ms",
        f"{seconds[1] * 1000:,.0f} ms",
        f"{speed:.2f}",
        f"{min(speeds):.2f} to {max(speeds):.2f}",
        f"{busy:.2f}",
        f"≥ {GOAL} {'met' if speed >= GOAL else 'missed'}",
    )
    return f"| {' | '.join(cells)} |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench_vision", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="calls of each side and size")
    parser.add_argument("--append", help="append the table to this Markdown file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
