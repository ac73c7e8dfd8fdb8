"""Compare pulls with ``snapshot_download`` of one or more releases of huggingface_hub, on a Hub on loopback.

    python -m scripts.bench_pull                                 # the installed release
    python -m scripts.bench_pull --peer V036/bin/python --peer V2/bin/python --rounds 5

Every pull runs in its own process with an empty cache. gpux and the client alternate; a reported ratio is the median of
the ratios of all rounds, so that a change in the machine's speed affects both. gpux hashes every byte, the client none.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.hub import Fault, HubServer, add_repo

ROOT = Path(__file__).parent.parent
MB = 1_000_000
LATENCY, RATE = 0.05, 20 * MB  #: seconds before each answer, bytes per second of each connection

HEADER = "| pull | client | gpux | client | wall | goal | processes | CPU | peak memory |"
INTRODUCTION = (
    "Compared with `snapshot_download` of huggingface_hub, on a Hub on loopback; every pull runs in its own process "
    "with an empty cache; the two alternate; the ratios are gpux / client. gpux hashes every byte, the client none."
)
GPUX = """
import json, resource, sys, time
import huggingface_hub, httpx2
from gpux import HuggingFaceManager
from gpux.huggingface import client as hub_client
from gpux.download import transfer
began = time.perf_counter()
manager = HuggingFaceManager()
info = manager.get_model_info(sys.argv[1])
report = manager.fetch(info, [file.path for file in info.files]).report
seconds = time.perf_counter() - began
assert report.verified == len(info.files)
"""
CLIENT = """
import json, resource, sys, time
import huggingface_hub
from huggingface_hub import snapshot_download
began = time.perf_counter()
snapshot_download(sys.argv[1])
seconds = time.perf_counter() - began
"""
USAGE = """
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": seconds, "rss": usage.ru_maxrss / 1024, "cpu": usage.ru_utime + usage.ru_stime,
                  "version": huggingface_hub.__version__}))
"""


@dataclass(frozen=True)
class Run:
    """Measurements of one process: wall seconds of the call and of the process, CPU seconds, peak memory in MiB."""

    seconds: float
    process: float
    cpu: float
    rss: float
    version: str


def main() -> int:
    """Run all cases and print the table."""
    arguments = _parser().parse_args()
    if arguments.serve:
        return serve(Path(arguments.serve[0]), slow=arguments.serve[1] == "slow")
    peers = arguments.peer or [sys.executable]
    with tempfile.TemporaryDirectory(prefix="gpux-bench-pull-", dir=arguments.folder) as name:
        folder = Path(name)
        write_repositories(folder / "hub", arguments.size * MB)
        rows = [
            *case(folder, peers, "bench/large", "quick", arguments.rounds, f"one file of {arguments.size} MB", 1.0),
            *case(folder, peers, "bench/small", "quick", arguments.rounds, "200 files of 5 kB", 1.0),
            *case(
                folder, peers, "bench/large", "slow", 1, "the large file, 50 ms latency, 20 MB/s per connection", 0.5
            ),
        ]
    table = "\n".join([HEADER, "|---|---|---|---|---|---|---|---|---|", *rows])
    print(table)
    if arguments.append:
        with Path(arguments.append).open("a", encoding="utf-8") as page:
            page.write(f"\n## Downloads\n\n{INTRODUCTION}\n\n{table}\n")
    return 0


def case(
    folder: Path, peers: Sequence[str], model: str, hub: str, rounds: int, what: str, goal: float
) -> Iterator[str]:
    """One row of the table for each peer."""
    with serving(folder / "hub", hub) as url:
        for peer in peers:
            pairs = [
                (pull(sys.executable, GPUX, model, url, folder), pull(peer, CLIENT, model, url, folder))
                for _ in range(rounds)
            ]
            yield line(what, pairs, goal)


def line(what: str, pairs: Sequence[tuple[Run, Run]], goal: float) -> str:
    """Medians of both sides and of the ratios."""
    middle = statistics.median
    ours, theirs = (middle(pair[side].seconds for pair in pairs) for side in (0, 1))
    wall = middle(a.seconds / b.seconds for a, b in pairs)
    process = middle(a.process / b.process for a, b in pairs)
    cpu = middle(a.cpu / b.cpu for a, b in pairs)
    rss = [middle(pair[side].rss for pair in pairs) for side in (0, 1)]
    verdict = "met" if wall <= goal else "missed"
    return (
        f"| {what} | {pairs[0][1].version} | {ours:.2f} s | {theirs:.2f} s | {wall:.2f} | <= {goal} {verdict} "
        f"| {process:.2f} | {cpu:.2f} | {rss[0]:.0f} / {rss[1]:.0f} MiB = {rss[0] / rss[1]:.2f} |"
    )


def pull(python: str, program: str, model: str, url: str, folder: Path) -> Run:
    """One pull into an empty cache."""
    home = Path(tempfile.mkdtemp(dir=folder))
    env = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(home), "GPUX_HOME": str(home / "gpux")}
    env |= dict.fromkeys(("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"), "1")
    env |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
    env.pop("HF_TOKEN", None)
    began = time.perf_counter()
    done = subprocess.run(
        [python, "-c", program + USAGE, model], env=env, check=True, stdout=subprocess.PIPE, text=True
    )
    process = time.perf_counter() - began
    shutil.rmtree(home)
    return Run(process=process, **json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def serving(root: Path, kind: str) -> Iterator[str]:
    """A Hub in its own process; yields its address."""
    command = [sys.executable, "-m", "scripts.bench_pull", "--serve", str(root), kind]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def serve(root: Path, *, slow: bool) -> int:
    """The server process: print the address, then serve until terminated."""
    with HubServer(root) as hub:
        if slow:
            hub.add_fault(Fault("latency", seconds=LATENCY, times=None))
            hub.add_fault(Fault("throttle", listener="cdn", rate=RATE, times=None))
        print(hub.url, flush=True)
        while True:
            time.sleep(3600)


def write_repositories(root: Path, size: int) -> None:
    """One large file, and 200 small ones."""
    block, large = random.Random(1).randbytes(MB), root.parent / "large.bin"
    with large.open("wb") as file:
        for number in range(size // MB):
            file.write(number.to_bytes(8, "big") + block[8:])
    add_repo(root, "bench/large", {"model.safetensors": large, "config.json": b"{}"})
    add_repo(root, "bench/small", {f"{number:03}.json": random.Random(number).randbytes(5000) for number in range(200)})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench_pull", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peer", action="append", metavar="PYTHON", help="interpreter with huggingface_hub, repeatable"
    )
    parser.add_argument("--rounds", type=int, default=5, help="pulls of each side")
    parser.add_argument("--size", type=int, default=1000, metavar="MB", help="size of the large file")
    parser.add_argument("--folder", help="where caches are written (default: the system's temporary folder)")
    parser.add_argument("--append", metavar="PAGE", help="append the table to this Markdown file")
    parser.add_argument("--serve", nargs=2, metavar=("DIR", "KIND"), help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
