"""Load a server with many clients, and kill it and its workers at random instants. ``./dev server_stress`` runs it."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
from tests.server import running
from tests.server.running import Running

from scripts import server_load

#: MiB that the memory may grow by after the first quarter of the time.
FLAT = 24.0
#: Seconds for what a killed process leaves behind to end.
GRACE = 20.0


def main() -> int:
    """Print what was seen; returns 1 when a request was lost or something was damaged."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="gpux-stress-") as name:
        home = Path(name)
        running.fill(home)
        if arguments.clients:
            problems += under_load(home, arguments.clients, arguments.seconds, arguments.seed)
        chance = random.Random(arguments.seed)
        for number in range(arguments.kills):
            kind = ("server", "worker")[number % 2]
            instant = chance.uniform(0.1, 2.5)
            found = kill(home, kind, instant, seed=arguments.seed + number)
            print(f"kill {number + 1}: {kind} after {instant:.2f} s: {'; '.join(found) or 'all right'}", flush=True)
            problems += found
    print("\n".join(problems) or "no problem found")
    return int(bool(problems))


def under_load(home: Path, clients: int, seconds: float, seed: int, *, flat: bool = True) -> list[str]:
    """Mixed requests with cancellations: what was lost, left behind, or grew.

    Args:
        home: with stored models.
        clients: that send requests at the same time.
        seconds: that new requests are sent.
        seed: of the requests.
        flat: whether the memory must stay as it is after the first quarter of the time.
    """
    with running.serving(home) as server:
        server_load.prepare(server)
        server_load.warm(server)
        outcome = asyncio.run(server_load.run(server, clients, seconds, seed))
        print(f"{clients} clients for {seconds:g} s: {outcome.describe()}", flush=True)
        problems = outcome.wrong[:20]
        if lost := outcome.broken + outcome.refused[server_load.DIED]:
            problems.append(f"{lost} requests were lost with a connection or a worker")
        if left := _left(server):
            problems.append(f"at the end: {left}")
        growth = outcome.growth(seconds / 4)
        print(f"memory after warm-up: {growth:+.1f} MiB", flush=True)
        if flat and growth > FLAT:
            problems.append(f"the memory grew by {growth:.1f} MiB")
        used, answered = server_load.uses(server), outcome.answered["generate"]
        if used < answered:
            problems.append(f"{answered} answers of generate, and {used} uses are counted")
    return problems


def _left(server: Running) -> dict[str, float]:
    end = time.monotonic() + GRACE
    for left in server_load.settled(server):
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.1)
    raise AssertionError


def kill(home: Path, kind: str, instant: float, *, seed: int, clients: int = 8, rest: float = 1.0) -> list[str]:
    """SIGKILL to the server, or to one of its workers, amid requests: what is damaged afterwards.

    Args:
        home: with stored models.
        kind: ``server`` or ``worker``.
        instant: seconds after the first request.
        seed: of the requests.
        clients: that send requests.
        rest: seconds after the kill until the last request.
    """
    problems: list[str] = []
    with running.serving(home) as server:
        server_load.prepare(server)
        before = server_load.uses(server)
        killer = threading.Timer(instant, _kill, (server, kind, random.Random(seed)))
        killer.start()
        outcome = asyncio.run(server_load.run(server, clients, instant + rest, seed))
        killer.join()
        if kind == "worker":
            problems += outcome.wrong
            if outcome.broken:
                problems.append(f"{outcome.broken} connections ended with the worker")
            problems += _check(server, before, outcome)
    if kind == "server":
        with running.serving(home) as server:  # the next start
            problems += _check(server, before, outcome)
    if left := _orphans(home):
        problems.append(f"processes are left: {left}")
    return problems + _verify(home)


def _kill(server: Running, kind: str, chance: random.Random) -> None:
    chosen = server_load.processes(server)
    if kind == "worker":
        chosen = chosen[1:]
    if chosen:
        with suppress(psutil.NoSuchProcess):
            (chance.choice(chosen) if kind == "worker" else chosen[0]).send_signal(signal.SIGKILL)


def _check(server: Running, before: int, outcome: server_load.Outcome) -> list[str]:
    """Whether the server answers, and counted at least what was answered and at most what was sent."""
    problems = []
    body = {"model": running.WRITER, "messages": [{"role": "user", "content": "abc"}], "max_tokens": 4}
    if (answer := server.post("/v1/chat/completions", body)).status_code != 200:
        problems.append(f"the next chat is answered with {answer.status_code}: {answer.text[:200]}")
    counted, answered = server_load.uses(server) - before, outcome.answered["generate"]
    if not answered <= counted <= answered + outcome.broken + outcome.refused.total():
        problems.append(f"{answered} answers of generate, and {counted} more uses")
    return problems


def _orphans(home: Path) -> list[int]:
    """Workers of this home that are still there after a while."""
    end = time.monotonic() + GRACE
    while True:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if "gpux.server.workers.program" in (process.info["cmdline"] or ()) and (
                    process.environ().get("GPUX_HOME") == str(home)
                ):
                    found.append(process.pid)
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.05)


def _verify(home: Path) -> list[str]:
    command = [sys.executable, "-P", "-m", "gpux", "verify", "--json"]
    environment = {**os.environ, "GPUX_HOME": str(home), "HF_HOME": str(home / "hf")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return [f"gpux verify ended with {done.returncode}: {done.stdout[-300:]}"] if done.returncode else []


if __name__ == "__main__":
    sys.exit(main())
