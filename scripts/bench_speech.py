"""Measure speech recognition against transformers with torch, one call of each in turn. ``./dev bench`` runs it.

The model has the shape of whisper-tiny and random weights, so that both sides generate the same tokens; 60 s of sound
are read in windows of 30 s. Both have the same number of threads, and neither decodes a window twice.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from gpux.convert.registry import find_toolchain
from gpux.system.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
ROUNDS, THREADS, SECONDS, RATE = 5, 2, 60, 16_000
GOAL = 0.6  #: of transformers' time
SHAPE = {
    "d_model": 384,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_ffn_dim": 1536,
    "decoder_ffn_dim": 1536,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "num_mel_bins": 80,
    "vocab_size": 51865,
    "max_target_positions": 448,
}
TOKENS = 100
PLAIN = {"num_beams": 1}
#: Name -> options of transformers' pipeline, and those of the generation.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "segments": ({"return_timestamps": True}, PLAIN),
    "words": ({"return_timestamps": "word"}, PLAIN),
    "chunks of 30 s": ({"chunk_length_s": 30}, PLAIN),
    "segments, 5 beams": ({"return_timestamps": True}, {**PLAIN, "num_beams": 5}),
}
HEADER = "| answer | transformers | gpux | real-time factor | ratio | goal | ratio of processor time |"
INTRODUCTION = (
    f"{SECONDS} s of sound by a model of whisper-tiny's shape, {TOKENS} new tokens for each window, {THREADS} threads, "
    "calls of both in turn; medians, and of `ratio` the median over the rounds. The real-time factor is gpux's."
)


def main() -> int:
    """Print the table; returns 1 when the goal is missed."""
    arguments = _parser().parse_args()
    if arguments.serve:
        _serve(arguments.serve[0], Path(arguments.serve[1]))
        return 0
    toolchain = find_toolchain("optimum", Settings.from_env())
    toolchain.check_ready()
    with tempfile.TemporaryDirectory(prefix="gpux-bench-speech-") as name:
        folder = Path(name)
        _write(folder, toolchain.python)
        table = _table(folder, toolchain.python, arguments.rounds, arguments.tokens, arguments.only or list(CASES))
    print(table)
    if arguments.append:
        with Path(arguments.append).open("a", encoding="utf-8") as page:
            page.write(f"\n## Speech recognition\n\n{INTRODUCTION}\n\n{table}\n")
    return 1 if "missed" in table else 0


def _write(folder: Path, python: Path) -> None:
    """The sound and the model."""
    place = np.arange(SECONDS * RATE) / RATE
    tone = np.sin(2 * np.pi * (200 + 150 * np.sin(place)) * place) * (np.sin(3 * place) > 0)
    sound = 0.3 * tone + 0.01 * np.random.default_rng(0).standard_normal(len(place))
    np.save(folder / "sound.npy", sound.astype(np.float32))
    program = (
        "import json, sys; from pathlib import Path; from tests.models.whisper import tiny_whisper;"
        f"tiny_whisper(Path({str(folder / 'model')!r}), **json.loads({json.dumps(SHAPE)!r}))"
    )
    subprocess.run([python, "-c", program], check=True, cwd=ROOT)


def _table(folder: Path, python: Path, rounds: int, tokens: int, names: list[str]) -> str:
    lines = [HEADER, f"|{'---|' * 7}"]
    sides = [
        _Side("transformers", folder, python, tokens),
        _Side("gpux", folder, Path(sys.executable), tokens),
    ]
    try:
        for name in names:
            for side in sides:
                side.call(name)  # warm
            times = [[side.call(name) for side in sides] for _ in range(rounds)]
            answers = [side.answer for side in sides]
            ratio, processor = (statistics.median(gpux[kind] / other[kind] for other, gpux in times) for kind in (0, 1))
            other, gpux = (statistics.median(side[0] for side in column) for column in zip(*times, strict=True))
            goal = f"≤ {GOAL}: {'met' if ratio <= GOAL else 'missed'}"
            same = "" if answers[0] == answers[1] else ", answers differ"
            factor = gpux / SECONDS
            measured = f"{other:.2f} s | {gpux:.2f} s | {factor:.3f} | {ratio:.2f}"
            lines.append(f"| {name}{same} | {measured} | {goal} | {processor:.2f} |")
            print(lines[-1], flush=True)
    finally:
        for side in sides:
            side.close()
    return "\n".join(lines)


class _Side:
    """A process that answers the calls of one library."""

    def __init__(self, library: str, folder: Path, python: Path, tokens: int) -> None:
        self._tokens = tokens
        env = {**os.environ, "HF_HUB_OFFLINE": "1", "GPUX_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
        command = [str(python), str(Path(__file__)), "--serve", library, str(folder)]
        if library == "transformers":
            command = [str(python), "-c", _REFERENCE, str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
        self.answer: Any = None

    def call(self, name: str) -> tuple[float, float]:
        """Seconds of one call, and of processor time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        options, generation = CASES[name]
        fixed = {"max_new_tokens": self._tokens, "min_new_tokens": self._tokens}
        self._process.stdin.write(json.dumps((options, {**generation, **fixed})) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        self.answer = found["answer"]
        return float(found["seconds"]), float(found["processor"])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def _serve(library: str, folder: Path) -> None:
    assert library == "gpux"
    from gpux import pipeline

    pipe = pipeline("automatic-speech-recognition", model=str(folder / "model"), threads=THREADS)
    sound = np.load(folder / "sound.npy")
    for line in sys.stdin:
        options, generation = json.loads(line)
        began, used = time.perf_counter(), time.process_time()
        answer = pipe(sound, generate_kwargs=generation, **options)
        found = {"seconds": time.perf_counter() - began, "processor": time.process_time() - used, "answer": answer}
        print(json.dumps(found), flush=True)


_REFERENCE = f"""
import json, sys, time, warnings
import numpy as np, torch
from transformers import pipeline
from transformers.utils import logging
warnings.simplefilter("ignore"); logging.set_verbosity_error()
torch.set_num_threads({THREADS})
pipe = pipeline("automatic-speech-recognition", sys.argv[1] + "/model")
sound = np.load(sys.argv[1] + "/sound.npy")
for line in sys.stdin:
    options, generation = json.loads(line)
    began, used = time.perf_counter(), time.process_time()
    answer = pipe(sound.copy(), generate_kwargs=generation, **options)
    found = {{"seconds": time.perf_counter() - began, "processor": time.process_time() - used, "answer": answer}}
    print(json.dumps(found), flush=True)
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="new tokens for each window")
    parser.add_argument("--only", action="append", choices=list(CASES))
    parser.add_argument("--append", help="add the table to this page")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
