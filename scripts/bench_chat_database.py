"""Measure what storing conversations costs, and what a killed process loses. ``./dev bench_server`` runs it.

    python -m scripts.bench_chat_database [--only share streams loss] [--database URL] [--rounds 3]

- ``share``: one answer of 50 pieces a second, stored and not stored: the processor time of all threads, and the time
  for which the answer waits for the database, as shares of its length.
- ``streams``: 200 answers at once through ``/api/stream-message`` of `gpux serve`, from a server with Ollama's API that
  sends a token every 50 ms. They are stored, or not, in turn. Every event is counted, and every stored text compared.
- ``loss``: a process that stores answers is killed at 20 random instants: the age of the first piece that is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from tests.ollama.running import running_ollama
from tests.server.running import serving

from gpux import Settings
from gpux.chat.database import open_database
from gpux.chat.database.database import Database
from scripts.bench_server_client import Connection, encoded

HEADER = "| what | measured | goal |\n|---|---|---|"
INTRODUCTION = (
    "Written by `python -m scripts.bench_chat_database`: conversations in {kind}; medians of {rounds} rounds, and the "
    "worst of them where several are named. {note}"
)
PIECES, PACE = 300, 0.02  #: of one answer; seconds between pieces
CLIENTS, WORDS = 200, 100  #: answers at once; tokens of each
MODEL = "ollama:slow"
PATH = "/api/stream-message"
KILLS = 20
ROOT = Path(__file__).parent.parent


@dataclass
class Bench:
    """What a case needs."""

    settings: Settings
    url: str
    rounds: int


def main() -> int:
    """Print the table; returns 1 when a goal is missed."""
    arguments = _parser().parse_args()
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="gpux-bench-chat-") as scratch:
        settings = Settings.from_env(home=Path(scratch) / "home")
        url = arguments.database or f"sqlite:///{scratch}/conversations.db"
        for name in CASES:
            if arguments.only and name not in arguments.only:
                continue
            print(f"{name}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
            for line in CASES[name](Bench(settings, url, arguments.rounds)):
                print(line, file=sys.stderr, flush=True)
                lines.append(line)
    kind = "PostgreSQL" if arguments.database else "SQLite"
    introduction = INTRODUCTION.format(kind=kind, rounds=arguments.rounds, note=arguments.note)
    table = "\n".join([HEADER, *lines])
    print(f"{introduction}\n\n{table}")
    if arguments.append:
        with Path(arguments.append).open("a", encoding="utf-8") as page:
            page.write(f"\n## Stored conversations\n\n{introduction}\n\n{table}\n")
    return 1 if "missed" in table else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(CASES), help="measure only these")
    parser.add_argument("--database", help="URL of an empty PostgreSQL database in place of a file of SQLite")
    parser.add_argument("--append", help="page that the table is added to")
    parser.add_argument("--note", default="", help="a sentence about the machine")
    return parser


# One answer


def share(bench: Bench) -> Iterator[str]:
    """What storing one answer takes of its length."""
    cpu, waited = [], []
    for _ in range(bench.rounds):
        plain = asyncio.run(_answered(None))
        stored = asyncio.run(_with_database(bench))
        cpu.append((stored.cpu - plain.cpu) / stored.seconds)
        waited.append(stored.waited / stored.seconds)
    for what, found in (("processor time", cpu), ("time that the answer waits", waited)):
        measured = statistics.median(found)
        shown = f"{measured:.2%} of its length, at most {max(found):.2%}"
        yield f"| one stored answer, {what} | {shown} | {_most(measured)} |"


def _most(measured: float) -> str:
    return f"≤ 5 % {'met' if measured <= 0.05 else 'missed'}"


@dataclass
class Cost:
    """Of one answer, in seconds."""

    seconds: float = 0.0  #: its length
    cpu: float = 0.0  #: of this process, all threads
    waited: float = 0.0  #: for the database


async def _with_database(bench: Bench) -> Cost:
    database = await open_database(bench.url, bench.settings)
    try:
        return await _answered(database)
    finally:
        await database.aclose()


async def _answered(database: Database | None) -> Cost:
    found = Cost()
    began, cpu = time.perf_counter(), time.process_time()
    answer = 0
    if database is not None:
        chat = await database.conversations.create(tab_name="A title", llm_model=MODEL, model_provider="ollama")
        await database.conversations.add_message(chat.id, "A question of usual length, which is not short.")
        answer = await database.answers.begin(chat.id, llm_model=MODEL, model_provider="ollama")
        found.waited += time.perf_counter() - began
    for place in range(PIECES):
        await asyncio.sleep(max(0.0, began + (place + 1) * PACE - time.perf_counter()))
        if database is not None:
            database.answers.append(answer, "piece ")
    if database is not None:
        ended = time.perf_counter()
        await database.answers.finish(answer, prompt_tokens=12, completion_tokens=PIECES)
        await database.usage.record("ollama", MODEL, total_ms=1, completion_tokens=PIECES, first_token_ms=1)
        found.waited += time.perf_counter() - ended
    found.seconds, found.cpu = time.perf_counter() - began, time.process_time() - cpu
    return found


# Many answers through the server


@dataclass
class Answer:
    """One answer."""

    seconds: float
    lost: int  #: tokens that did not arrive, arrived twice or in another order, and an end that is missing
    conversation: str  #: its id
    error: str | None  #: code of the error that ended it


@dataclass
class Talked:
    """All answers of one round."""

    answers: list[Answer]
    cpu: float  #: processor seconds of the server

    @property
    def length(self) -> float:
        """Median of the lengths of the answers that did not end with an error."""
        return statistics.median(one.seconds for one in self.answers if one.error is None)


def streams(bench: Bench) -> Iterator[str]:
    """200 answers at once, stored and not stored."""
    text = " ".join(f"word{place}" for place in range(WORDS))
    stored, plain = [], []
    with running_ollama() as ollama, _chat_server(bench, ollama.url) as (url, process):
        asyncio.run(_talk(url, process, text, keep=False))  # starts the chats of the server, and opens its connections
        for _ in range(bench.rounds):
            plain.append(asyncio.run(_talk(url, process, text, keep=False)))
            stored.append(asyncio.run(_talk(url, process, text, keep=True)))
    answers = [answer for talked in (*plain, *stored) for answer in talked.answers]
    pairs = list(zip(stored, plain, strict=True))
    ratios = [one.length / other.length for one, other in pairs]
    cpu = [(one.cpu - other.cpu) / sum(answer.seconds for answer in one.answers) for one, other in pairs]
    kept = [answer for talked in stored for answer in talked.answers if answer.error is None]
    missing = asyncio.run(_not_stored(bench, [answer.conversation for answer in kept], text))
    ratio, share = statistics.median(ratios), statistics.median(cpu)
    yield (
        f"| {CLIENTS} answers at once, stored against not stored, median of their lengths | {ratio:.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}) | ≤ 1.05 {'met' if ratio <= 1.05 else 'missed'} |"
    )
    yield f"| {CLIENTS} answers at once, processor time of storing each | {share:.3%} of its length | {_most(share)} |"
    yield _none(f"events lost, of {len(answers)} answers of {WORDS} tokens", sum(one.lost for one in answers))
    for kind, talked in (("not stored", plain), ("stored", stored)):
        errors = Counter(one.error for each in talked for one in each.answers if one.error is not None)
        named = f" ({', '.join(f'{code}: {count}' for code, count in errors.items())})" if errors else ""
        yield _none(f"answers that ended with an error, {kind}{named}", errors.total())
    yield _none(f"texts that are not stored whole, of {len(kept)}", missing)


def _none(what: str, found: int) -> str:
    return f"| {what} | {found} | 0 {'missed' if found else 'met'} |"


@contextmanager
def _chat_server(bench: Bench, ollama: str) -> Iterator[tuple[str, psutil.Process]]:
    home = bench.settings.home
    home.mkdir(parents=True, exist_ok=True)
    (home / "chat.toml").write_text(
        f'database_url = "{bench.url}"\n[providers.ollama]\nbase_url = "{ollama}"\n', encoding="utf-8"
    )
    with serving(home) as server:
        yield server.url, psutil.Process(server.process.pid)


async def _talk(url: str, server: psutil.Process, text: str, *, keep: bool) -> Talked:
    """The answers to equal messages at once."""
    connections = [await Connection.open(url) for _ in range(CLIENTS)]
    body: dict[str, object] = {"model": MODEL, "message": text} | ({} if keep else {"conversationHistory": []})
    before = sum(server.cpu_times()[:2])
    found = await asyncio.gather(*(_one(connection, body, text) for connection in connections))
    cpu = sum(server.cpu_times()[:2]) - before
    await asyncio.gather(*(connection.close() for connection in connections))
    return Talked(found, cpu)


async def _one(connection: Connection, body: dict[str, object], text: str) -> Answer:
    began = time.perf_counter()
    try:
        events = (await connection.post(PATH, encoded(body))).decode().split("\n\n")
    except RuntimeError as error:  # another status
        return Answer(time.perf_counter() - began, 0, "", str(error))
    seconds = time.perf_counter() - began
    data = {name: found for name, found in map(_event, events) if name}
    conversation = data.get("session", {}).get("conversationId") or ""
    if "error" in data:
        return Answer(seconds, 0, conversation, str(data["error"].get("code")))
    tokens = [found["token"] for name, found in map(_event, events) if not name and found]
    lost = abs(len(tokens) - WORDS) + ("".join(tokens) != text) + ("end" not in data)
    return Answer(seconds, lost, conversation, None)


def _event(event: str) -> tuple[str, dict[str, Any]]:
    """The name of an event, which tokens do not have, and its data."""
    name, data = "", ""
    for line in event.splitlines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = line.removeprefix("data: ")
    return name, json.loads(data) if data else {}


async def _not_stored(bench: Bench, conversations: Sequence[str], text: str) -> int:
    database = await open_database(bench.url, bench.settings)
    try:
        missing = 0
        for id in conversations:
            messages = await database.conversations.messages(id)
            found = [(one.sender, one.text, one.partial) for one in messages]
            missing += found != [("user", text, False), ("llm", text, False)]
        return missing
    finally:
        await database.aclose()


# Killed


def loss(bench: Bench) -> Iterator[str]:
    """The age of the first piece that a killed process did not store."""
    chance, ages, questions = random.Random(0), [], 0
    for run in range(KILLS):
        command = [
            sys.executable,
            "-m",
            "scripts.bench_chat_database_killed",
            bench.url,
            str(bench.settings.home),
            str(run),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            process.stdout.readline()  # the message of the user is stored
            time.sleep(chance.uniform(0.05, 2))
            process.kill()
            killed = time.monotonic()
        question, age = asyncio.run(_age(bench, str(run), killed))
        questions += not question
        ages.append(age)
    most = max(ages)
    yield (
        f"| text that a killed process loses, {KILLS} kills | {statistics.median(ages) * 1000:.0f} ms, "
        f"at most {most * 1000:.0f} ms | ≤ 500 ms {'met' if most <= 0.5 else 'missed'} |"
    )
    yield _none("messages of the user that it loses", questions)


async def _age(bench: Bench, id: str, killed: float) -> tuple[bool, float]:
    """Whether the question is stored, and the age of the last stored piece, whose text is its time."""
    database = await open_database(bench.url, bench.settings)
    try:
        question, *answers = await database.conversations.messages(id)
    finally:
        await database.aclose()
    pieces = [float(piece) for one in answers for piece in one.text.split()]
    assert all(one.partial for one in answers)
    first_missing = pieces[-1] if pieces else float(question.text)
    return bool(question.text), killed - first_missing


CASES = {"share": share, "streams": streams, "loss": loss}


if __name__ == "__main__":
    sys.exit(main())
