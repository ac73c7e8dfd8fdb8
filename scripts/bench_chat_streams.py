"""Measure messages of `gpux serve` to models of gpux, and a server with chats. ``./dev bench_server`` runs it.

    python -m scripts.bench_chat_streams --folder DIR --rounds 15 [--only first idle]

- ``first``: time to the first token through ``/stream-message``, stored in a new conversation each, against
  ``/v1/chat/completions``, in turn; llama-100m has random weights, and prompts of other letters each time.
- ``idle``: memory of a server that has opened its chats, and answered one message and one query of GraphQL.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from tests.chat.service.talking import chatting
from tests.server.running import Running

from gpux import Settings, pull_model
from gpux.convert.registry import find_toolchain
from gpux.system.machine import cpu_threads
from scripts.bench_generation_cases import Ratio
from scripts.bench_generation_models import Models
from scripts.bench_server_client import Connection, encoded

HEADER = "| what | measured | goal |\n|---|---|---|"
INTRODUCTION = (
    "Written by `python -m scripts.bench_chat_streams --rounds {rounds}`: messages to models of gpux, {threads} "
    "threads; a ratio is the median of the ratios of the rounds, with the smallest and the largest. {note}"
)
PROMPTS = (32, 512)  #: tokens
RATIO = 1.1
#: Megabytes of an idle server that has opened its chats.
IDLE = 90.0
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


def main() -> int:
    """Print the table; returns 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="where the models are kept for the next run")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--append", help="page that the table is added to")
    parser.add_argument("--note", default="", help="a sentence about the machine")
    arguments = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory(prefix="gpux-bench-chat-") as scratch:
        home, model = _model(Path(arguments.folder or scratch).resolve())
        for name in arguments.only:
            print(f"{name}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
            with chatting(home, "", "--keep-alive", "-1") as server:
                lines += list(CASES[name](server, model, arguments.rounds))
    introduction = INTRODUCTION.format(rounds=arguments.rounds, threads=cpu_threads(), note=arguments.note)
    table = "\n".join([HEADER, *lines])
    print(f"{introduction}\n\n{table}")
    if arguments.append:
        with Path(arguments.append).open("a", encoding="utf-8") as page:
            page.write(f"\n## Messages to models of gpux\n\n{introduction}\n\n{table}\n")
    return 1 if "missed" in table else 0


def _model(folder: Path) -> tuple[Path, str]:
    """The home folder with llama-100m in fp32 and int4, and the reference of the model, which has a chat template."""
    toolchain = find_toolchain("mobius", Settings.from_env())
    optimum = find_toolchain("optimum", Settings.from_env())
    source = folder / "sources" / "llama-100m-chat"
    if not source.is_dir():
        shutil.copytree(Models(folder, optimum.python, None, cpu_threads()).source("llama-100m"), source)
        config = json.loads((source / "tokenizer_config.json").read_text())
        (source / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": TEMPLATE}))
    home = folder / "home"
    settings = Settings.from_env(home=home, toolchains=toolchain.path.parent)
    for precision in ("fp32", "int4"):
        pull_model(str(source), task="text-generation", precision=precision, settings=settings)
    return home, str(source)


def first(server: Running, model: str, rounds: int) -> Iterator[str]:
    """The first token of a message, and of a chat with the same model."""
    chance = random.Random(0)

    async def run(precision: str, length: int) -> list[tuple[float, float]]:
        connection = await Connection.open(server.url)

        def prompt() -> str:
            return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=length))

        async def message() -> float:
            options = {"temperature": 0, "maxTokens": 4}
            body = {"model": f"hf:{model}:{precision}", "message": prompt(), "options": options}
            return await _first(connection, "/stream-message", body, b'data: {"token"')

        async def chat() -> float:
            body = {"model": f"{model}:{precision}", "messages": [{"role": "user", "content": prompt()}]}
            more = {"temperature": 0, "max_tokens": 4, "stream": True}
            return await _first(connection, "/v1/chat/completions", {**body, **more}, b'"delta":{"content"')

        for _ in range(3):
            await message(), await chat()
        found = []
        for turn in range(rounds):
            found.append((await message(), await chat()) if turn % 2 else (await chat(), await message())[::-1])
        await connection.close()
        return found

    for precision in ("fp32", "int4"):
        for length in PROMPTS:
            found = asyncio.run(run(precision, length))
            ratio = Ratio(tuple(ours / theirs for ours, theirs in found))
            ours, theirs = (1e3 * statistics.median(pair[side] for pair in found) for side in (0, 1))
            what = f"llama-100m, {precision}, first token of {length} through `/stream-message`"
            measured = f"{ours:.1f} ms, `/v1/chat/completions` {theirs:.1f} ms: {ratio}"
            yield f"| {what} | {measured} | {_goal(RATIO, ratio.median, ' times')} |"


async def _first(connection: Connection, path: str, body: dict[str, Any], mark: bytes) -> float:
    """Seconds until a stream has the mark; the stream is read to its end."""
    began = time.perf_counter()
    data, found = b"", None
    async for part in connection.parts(path, encoded(body)):
        data += part
        if found is None and mark in data:
            found = time.perf_counter() - began
    if found is None:
        raise RuntimeError(f"there is no token: {data[:500]!r}")
    return found


def idle(server: Running, model: str, rounds: int) -> Iterator[str]:
    """Memory of a server that has chats, without its processes of models."""
    body = {"model": f"hf:{model}:int4", "message": "hi", "options": {"maxTokens": 2}}
    assert server.post("/stream-message", body).status_code == 200
    assert server.post("/graphql", {"query": "{ availableModels { count } }"}).status_code == 200
    time.sleep(2.0)
    size = psutil.Process(server.process.pid).memory_info().rss / 1e6
    what = "an idle server that has answered a message and a query, resident"
    yield f"| {what} | {size:.1f} MB | {_goal(IDLE, size, ' MB')} |"


def _goal(goal: float, measured: float, unit: str) -> str:
    return f"≤ {goal:g}{unit} {'met' if measured <= goal else 'missed'}"


CASES: dict[str, Callable[[Running, str, int], Iterator[str]]] = {"first": first, "idle": idle}

if __name__ == "__main__":
    sys.exit(main())
