"""Measure gpux against its peers in one run, print the ratios, and write docs/benchmarks.md. Run by ``./dev bench``.

gpux and the peer alternate in each round, so that a change in the machine's speed affects both; medians are reported.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tests.hub import HubServer, add_repo, folder_files
from tests.models.minilm import minilm_repository

from gpux import HuggingFaceManager, Settings
from gpux.convert.host.toolchain import Toolchain
from gpux.convert.registry import find_toolchain

ROUNDS = 7
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
PEER = Path(__file__).parent / "bench_peer.py"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True)
class Row:
    """One row of the report."""

    what: str
    ours: str
    peers: str
    ratio: str
    goal: str


def main() -> int:
    """Run all benchmarks."""
    toolchain = find_toolchain("optimum", Settings.from_env())
    toolchain.check_ready()
    with tempfile.TemporaryDirectory(prefix="gpux-bench-") as name:
        folder = Path(name)
        source = minilm_repository(folder / "source", onnx=False)
        add_repo(folder / "hub", MODEL, folder_files(source))
        with HubServer(folder / "hub") as hub:
            env = {**os.environ, **hub.client_env(folder / "hf"), "GPUX_HOME": str(folder / "gpux")}
            env["GPUX_TOOLCHAINS"] = str(toolchain.path.parent)
            os.environ.update(env)
            subprocess.run([sys.executable, "-m", "gpux", "-q", "pull", MODEL], env=env, check=True)
            rows = [*start_up(env), *pulls(hub), *folders(env, folder, hub)]
            rows += embeddings(env, toolchain.python, source, folder)
    report = page(rows, toolchain)
    print(report)
    if "--write" in sys.argv:
        PAGE.write_text(report, encoding="utf-8")
    return 0


def start_up(env: dict[str, str]) -> list[Row]:
    """Import and help."""
    python = [sys.executable, "-c"]
    bare, imported = alternate(env, [*python, "pass"], [*python, "import gpux"])
    hf = Path(sys.executable).with_name("hf")
    ours, theirs = alternate(env, [sys.executable, "-m", "gpux", "--help"], [str(hf), "--help"])
    return [
        Row("`import gpux`, beyond an empty process", f"{1000 * (imported - bare):.0f} ms", "", "", "≤ 60 ms"),
        Row("`gpux --help` / `hf --help`, wall", ms(ours), ms(theirs), f"{ours / theirs:.2f}", "≤ 0.5"),
    ]


def pulls(hub: HubServer) -> list[Row]:
    """A pull of a model that is stored already, in this process."""
    manager = HuggingFaceManager(Settings.from_env())
    model = manager.pull_model(MODEL)
    hub.clear_requests()
    branch = statistics.median(timed(lambda: manager.pull_model(MODEL)) for _ in range(ROUNDS))
    requests = len(hub.requests) / ROUNDS
    hub.clear_requests()
    commit = statistics.median(timed(lambda: manager.pull_model(MODEL, revision=model.commit)) for _ in range(ROUNDS))
    return [
        Row("second pull by branch, in process", ms(branch), "", f"{requests:g} requests", "≤ 150 ms, 1 request"),
        Row("second pull by commit, in process", ms(commit), "", f"{len(hub.requests)} requests", "0 requests"),
    ]


def folders(env: dict[str, str], folder: Path, hub: HubServer) -> list[Row]:
    """``gpux run ./folder`` with 1.2 GB of weights that did not change, and the same model by its stored name."""
    local = minilm_repository(folder / "with onnx", onnx=True, cache=folder / "onnx")
    add_repo(folder / "hub", f"{MODEL}-onnx", folder_files(local))
    with (local / "pytorch_model.bin").open("wb") as weights:
        for _ in range(12):
            weights.write(os.urandom(100_000_000))
    gpux = [sys.executable, "-m", "gpux", "-q"]
    subprocess.run([*gpux, "pull", f"{MODEL}-onnx"], env=env, check=True, capture_output=True)
    offline = {**env, "HF_HUB_OFFLINE": "1"}
    runs = [*gpux, "run", str(local), "hello"], [*gpux, "run", f"{MODEL}-onnx", "hello"]
    ours, stored = alternate(offline, *runs)
    return [Row("`gpux run ./folder` again / from the store", ms(ours), ms(stored), f"{ours / stored:.3f}", "≤ 1.1")]


def embeddings(env: dict[str, str], peer_python: Path, source: Path, folder: Path) -> list[Row]:
    """One text in a new process, and 512 texts with a loaded model, compared with sentence-transformers on torch."""
    gpux, peer = [sys.executable, str(PEER), "gpux"], [str(peer_python), str(PEER), "sentence-transformers"]
    offline = {**env, "HF_HUB_OFFLINE": "1"}
    one, theirs = alternate(offline, [*gpux, "one", MODEL], [*peer, "one", str(source)], rounds=3)
    vectors = [folder / "gpux.npy", folder / "peer.npy"]
    ours_speed, peer_speed = [], []
    for _ in range(3):
        ours_speed.append(speed(offline, [*gpux, "many", MODEL, str(vectors[0])]))
        peer_speed.append(speed(offline, [*peer, "many", str(source), str(vectors[1])]))
    fast, slow = statistics.median(ours_speed), statistics.median(peer_speed)
    cosine = smallest_cosine(np.load(vectors[0]), np.load(vectors[1]))
    return [
        Row("fresh process, stored model, one text", ms(one), ms(theirs), f"{one / theirs:.3f}", "≤ 0.167"),
        Row("512 texts of 5 to 80 words, texts/s", f"{fast:.0f}", f"{slow:.0f}", f"{fast / slow:.2f}", "≥ 2.5"),
        Row("smallest cosine to its vectors", f"{cosine:.7f}", "", "", "≥ 0.99999"),
    ]


def alternate(
    env: dict[str, str], ours: Sequence[str], theirs: Sequence[str], *, rounds: int = ROUNDS
) -> tuple[float, float]:
    """Median wall seconds of two commands, run alternately after one warm-up run of each."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for command, into in zip((ours, theirs), taken, strict=True):
            run = lambda command=command: subprocess.run(command, env=env, check=True, capture_output=True)  # noqa: E731
            seconds = timed(run)
            if number:
                into.append(seconds)
    return statistics.median(taken[0]), statistics.median(taken[1])


def speed(env: dict[str, str], command: Sequence[str]) -> float:
    """Texts per second that a peer process reports."""
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["texts_per_second"])


def timed(action: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def smallest_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The smallest cosine similarity between the two vectors of a text, ``[texts, size]`` each."""
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / norms).min())


def ms(seconds: float) -> str:
    """Seconds formatted as milliseconds for a table."""
    return f"{1000 * seconds:,.0f} ms"


def page(rows: Sequence[Row], toolchain: Toolchain) -> str:
    """The report as Markdown."""
    peers = toolchain.pins()
    ours = ", ".join(f"{name} {version(name)}" for name in ("gpux", "onnxruntime", "huggingface_hub", "tokenizers"))
    theirs = ", ".join(f"{name} {peers[name]}" for name in ("torch", "sentence-transformers") if name in peers)
    table = "\n".join(f"| {r.what} | {r.ours} | {r.peers} | {r.ratio} | {r.goal} |" for r in rows)
    return (
        "# Benchmarks\n\nWritten by `./dev bench -- --write`. gpux and the peer alternated in one run; medians. The "
        "machine is shared, so the ratios mean more than the times.\n\n"
        f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, "
        f"Python {platform.python_version()}. {ours}. Peer: {theirs}, in the toolchain, with its defaults.\n\n"
        f"| what | gpux | peer | ratio | goal |\n|---|---|---|---|---|\n{table}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
