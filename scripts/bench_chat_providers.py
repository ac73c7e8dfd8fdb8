"""Measure chats of `gpux serve` on loopback against the servers behind them. ``./dev bench_server`` runs it too.

    python -m scripts.bench_chat_providers --rounds 200 [--only ollama lists hanging]

The server in place of Ollama is that of tests/ollama, whose models answer at once, so that the difference is what gpux
adds. Both sides take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
from tests.chat.service.talking import chatting
from tests.ollama.running import running_ollama

INTRODUCTION = (
    "Written by `python -m scripts.bench_chat_providers`: `gpux serve` on loopback in front of a server with Ollama's "
    "API whose models answer at once, so that the difference is what gpux adds; both took turns, medians."
)
HEADER = "| what | measured | goal |\n|---|---|---|"
#: Milliseconds that the first token through gpux may take longer than that of Ollama itself.
FIRST = 15.0
#: Milliseconds for a warm list of 1,000 models of three providers.
WARM = 50.0
#: Seconds for a list of which one provider hangs.
HANGING = 1.0
LIST = {"query": "{ availableModels { models count } }"}
DETAILS = {"query": "{ modelInfos { name provider displayName } }"}


def main() -> int:
    """Print the table; returns 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--append", help="page that the table is added to")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    arguments = parser.parse_args()
    lines = []
    for name in arguments.only:
        print(f"{name}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
        lines += list(CASES[name](arguments.rounds))
    table = "\n".join([HEADER, *lines])
    print(table)
    if arguments.append:
        with Path(arguments.append).open("a", encoding="utf-8") as page:
            page.write(f"\n## Chat providers\n\n{INTRODUCTION}\n\n{table}\n")
    return 1 if "missed" in table else 0


def ollama(rounds: int) -> Iterator[str]:
    """The first token of a message through gpux, its conversation stored, and from Ollama itself."""
    with ExitStack() as stack:
        server = stack.enter_context(running_ollama())
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpux-bench-chat-")))
        configuration = f'[providers.ollama]\nbase_url = "{server.url}"\n'
        running = stack.enter_context(chatting(home, configuration, HUGGINGFACE_ENABLED="false"))
        client = stack.enter_context(httpx2.Client(trust_env=False, timeout=60))

        def through() -> float:
            body = {"model": "ollama:echo", "message": "one two three"}
            return _first(client, f"{running.url}/stream-message", body, '"token"')

        def alone() -> float:
            messages = [{"role": "user", "content": "one two three"}]
            return _first(client, f"{server.url}/api/chat", {"model": "echo", "messages": messages}, '"message"')

        for _ in range(10):
            through(), alone()
        found = [(through(), alone()) for _ in range(rounds)]
    more = [1e3 * (ours - theirs) for ours, theirs in found]
    ours, theirs = (1e3 * statistics.median(pair[side] for pair in found) for side in (0, 1))
    middle, tail = statistics.median(more), statistics.quantiles(more, n=20)[18]
    measured = f"{ours:.1f} ms, alone {theirs:.1f} ms: {middle:+.1f} ms (95th percentile {tail:+.1f} ms)"
    yield f"| first token through `ollama:` | {measured} | {_goal('≤', FIRST, middle, ' ms more')} |"


def lists(rounds: int) -> Iterator[str]:
    """1,000 models of three providers, by GraphQL."""
    with ExitStack() as stack:
        tables = []
        for name, count in (("one", 334), ("two", 333), ("three", 333)):
            url = stack.enter_context(running_ollama(["--models", str(count), "--no-others"])).url
            tables.append(_table(name, url))
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpux-bench-chat-")))
        running = stack.enter_context(
            chatting(home, "\n".join([_without_ollama(), *tables]), HUGGINGFACE_ENABLED="false")
        )
        client = stack.enter_context(httpx2.Client(trust_env=False, timeout=60))
        for what, query, path in (("names", LIST, "availableModels"), ("descriptions", DETAILS, "modelInfos")):
            end = time.monotonic() + 30
            while len(_listed(_graphql(client, running.url, query)[path])) < 1000:
                assert time.monotonic() < end, "1,000 models are not listed"
                time.sleep(0.5)
            times = []
            for _ in range(min(rounds, 50)):
                began = time.perf_counter()
                _graphql(client, running.url, query)
                times.append(1e3 * (time.perf_counter() - began))
            middle = statistics.median(times)
            measured = f"{middle:.1f} ms (slowest of {len(times)}: {max(times):.1f} ms)"
            goal = _goal("≤", WARM, middle, " ms")
            yield f"| list of 1,000 models of three providers, {what}, warm | {measured} | {goal} |"


def hanging(rounds: int) -> Iterator[str]:
    """The first list, of which one provider accepts connections and answers nothing."""
    with ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        url = stack.enter_context(running_ollama()).url
        tables = [_table("deaf", f"http://127.0.0.1:{deaf.getsockname()[1]}"), _table("fine", url)]
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpux-bench-chat-")))
        running = stack.enter_context(
            chatting(home, "\n".join([_without_ollama(), *tables]), HUGGINGFACE_ENABLED="false")
        )
        client = stack.enter_context(httpx2.Client(trust_env=False, timeout=60))
        client.get(f"{running.url}/health")
        _graphql(client, running.url, {"query": "{ conversations { count } }"})  # the service is open
        began = time.perf_counter()
        found = _graphql(client, running.url, LIST)["availableModels"]["models"]
        seconds = time.perf_counter() - began
    assert found and all(one.startswith("fine:") for one in found), found
    yield f"| first list, one of two providers hangs | {seconds:.2f} s | {_goal('≤', HANGING, seconds, ' s')} |"


CASES: dict[str, Callable[[int], Iterator[str]]] = {"ollama": ollama, "lists": lists, "hanging": hanging}


def _table(name: str, url: str) -> str:
    return f'[providers.{name}]\ntype = "ollama"\nprefix = "{name}:"\nbase_url = "{url}"\n'


def _without_ollama() -> str:
    return "[providers.ollama]\nenabled = false\n"


def _first(client: httpx2.Client, url: str, body: dict[str, Any], text: str) -> float:
    """Seconds until the first line with a text; the answer is read to its end."""
    began = time.perf_counter()
    seconds = None
    with client.stream("POST", url, json=body) as response:
        for line in response.iter_lines():
            if seconds is None and text in line:
                seconds = time.perf_counter() - began
    assert seconds is not None, "there was no token"
    return seconds


def _graphql(client: httpx2.Client, url: str, body: dict[str, Any]) -> Any:
    found = json.loads(client.post(f"{url}/graphql", json=body).content)
    assert "errors" not in found, found
    return found["data"]


def _listed(found: Any) -> list[Any]:
    models: list[Any] = found["models"] if isinstance(found, dict) else found
    return models


def _goal(sign: str, goal: float, measured: float, unit: str) -> str:
    return f"{sign} {goal:g}{unit} {'met' if measured <= goal else 'missed'}"


if __name__ == "__main__":
    sys.exit(main())
