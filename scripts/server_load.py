"""Clients of a server under load: each request ends with a checked answer, a typed error, or its own cancellation."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx2
import psutil
from tests.server.running import EMBEDDER, TURNS, WRITER, Running

LEGACY = "/api/huggingface"
#: Statuses of refusals that a client repeats later.
REFUSALS = (429, 503)
DIED = "worker_died"  #: code of the error of a request whose worker was killed


@dataclass
class Outcome:
    """What a load has seen."""

    answered: Counter[str] = field(default_factory=Counter)  #: by kind of request
    refused: Counter[str] = field(default_factory=Counter)  #: by status
    cancelled: int = 0
    broken: int = 0  #: connections that ended, as they do when the server is killed
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)  #: (seconds, bytes of the server and its workers)

    def describe(self) -> str:
        """One line."""
        answered = ", ".join(f"{name} {count}" for name, count in sorted(self.answered.items()))
        refused = ", ".join(f"{status}: {count}" for status, count in sorted(self.refused.items())) or "0"
        return f"answered {answered}; refused {refused}; cancelled {self.cancelled}; broken {self.broken}"

    def growth(self, warm: float) -> float:
        """How much larger the memory is at the end than after ``warm`` seconds, in MiB; medians of a fifth of it."""
        after = [size for seconds, size in self.memory if seconds >= warm]
        part = max(1, len(after) // 5)
        return (statistics.median(after[-part:]) - statistics.median(after[:part])) / 2**20


def warm(server: Running) -> None:
    """Load every model that the requests use."""
    for model in (WRITER, TURNS):
        body = {"model": model, "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
        server.post("/v1/chat/completions", body)
    server.post("/v1/embeddings", {"model": EMBEDDER, "input": "a"})


def prepare(server: Running) -> None:
    """Register the model whose uses are counted."""
    body = {"model_id": WRITER, "name": "Writer", "model_type": "text-generation"}
    server.post(f"{LEGACY}/models", body)


def uses(server: Running) -> int:
    """How often the registered model was used."""
    found: int = server.get(f"{LEGACY}/models/{WRITER}").json()["model"]["usage_count"]
    return found


def processes(server: Running) -> list[psutil.Process]:
    """The server and its workers."""
    with suppress(psutil.NoSuchProcess):
        top = psutil.Process(server.process.pid)
        return [top, *top.children()]
    return []


def gauges(server: Running, *names: str) -> dict[str, float]:
    """The samples of these metrics that are not 0."""
    found = {}
    for line in server.get("/metrics").text.splitlines():
        if line.startswith(names):
            sample, _, value = line.rpartition(" ")
            if float(value):
                found[sample] = float(value)
    return found


async def run(server: Running, clients: int, seconds: float, seed: int) -> Outcome:
    """Send mixed requests from many clients until the time has passed, and wait for every one to end."""
    outcome = Outcome()
    began = monotonic()
    limits = httpx2.Limits(max_connections=clients + 4, max_keepalive_connections=clients + 4)
    async with httpx2.AsyncClient(base_url=server.url, timeout=120.0, limits=limits, trust_env=False) as http:

        async def client(number: int) -> None:
            chance = random.Random(seed * 100_003 + number)
            while monotonic() - began < seconds and server.process.poll() is None:
                kind = chance.choice(KINDS)
                try:
                    await kind(http, chance, outcome)
                except httpx2.TransportError:
                    outcome.broken += 1
                    await asyncio.sleep(0.05)
                except Exception as error:  # noqa: BLE001 - what a client sees is what is checked
                    outcome.wrong.append(f"{kind.__name__}: {type(error).__name__}: {error}")

        watching = asyncio.create_task(_watch(server, outcome, began))
        await asyncio.gather(*(client(number) for number in range(clients)))
        watching.cancel()
    return outcome


async def _watch(server: Running, outcome: Outcome, began: float) -> None:
    while True:
        size = 0
        for process in processes(server):
            with suppress(psutil.NoSuchProcess):
                size += process.memory_info().rss
        outcome.memory.append((monotonic() - began, size))
        await asyncio.sleep(0.25)


def _typed(response: httpx2.Response, outcome: Outcome, what: str) -> bool:
    """Whether it is an answer; a refusal is counted, and must have the shape of its API."""
    if response.status_code == 200:
        outcome.answered[what] += 1
        return True
    body = response.json()
    text = body["error"] if "success" in body else body["error"]["message"]
    code = (body if "success" in body else body["error"]).get("code")
    if code == DIED:
        outcome.refused[DIED] += 1
        return False
    if response.status_code not in REFUSALS or not isinstance(text, str) or "retry-after" not in response.headers:
        outcome.wrong.append(f"{what}: {response.status_code} {response.text[:300]}")
    outcome.refused[str(response.status_code)] += 1
    return False


def _chat(chance: random.Random, **more: Any) -> dict[str, Any]:
    text = "".join(chance.choice("abcdefgh ") for _ in range(chance.randint(1, 24)))
    model = chance.choice((WRITER, WRITER, WRITER, TURNS))
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": chance.randint(1, 24)}
    return {**body, **more}


async def _whole(http: httpx2.AsyncClient, chance: random.Random, outcome: Outcome) -> None:
    body = _chat(chance)
    response = await http.post("/v1/chat/completions", json=body)
    if _typed(response, outcome, "chat"):
        used = response.json()["usage"]["completion_tokens"]
        if not 0 < used <= body["max_tokens"]:
            outcome.wrong.append(f"chat: {used} tokens of {body['max_tokens']}")


async def _stream(http: httpx2.AsyncClient, chance: random.Random, outcome: Outcome) -> None:
    async with http.stream("POST", "/v1/chat/completions", json=_chat(chance, stream=True)) as response:
        if response.status_code != 200:
            await response.aread()
            _typed(response, outcome, "stream")
            return
        last = ""
        async for line in response.aiter_lines():
            last = line or last
    if last == "data: [DONE]":
        outcome.answered["stream"] += 1
    elif "error" in (found := json.loads(last.removeprefix("data: "))):
        outcome.refused[str(found["error"]["code"])] += 1
    else:
        outcome.wrong.append(f"stream: ends with {last[:200]}")


async def _leave(http: httpx2.AsyncClient, chance: random.Random, outcome: Outcome) -> None:
    """Leave a stream after some events, or a request before its answer."""
    if chance.random() < 0.5:
        body = _chat(chance, stream=True, max_tokens=60)
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            count = 0
            async for _ in response.aiter_lines():
                if (count := count + 1) > 4:
                    break
    else:
        with suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(0.0, 0.1)):
                await http.post("/v1/chat/completions", json=_chat(chance, max_tokens=60))
    outcome.cancelled += 1


async def _embed(http: httpx2.AsyncClient, chance: random.Random, outcome: Outcome) -> None:
    texts = [" ".join(chance.choices("abcde", k=chance.randint(1, 12))) for _ in range(chance.randint(1, 8))]
    response = await http.post("/v1/embeddings", json={"model": EMBEDDER, "input": texts})
    if _typed(response, outcome, "embeddings") and len(response.json()["data"]) != len(texts):
        outcome.wrong.append("embeddings: another number of vectors")


async def _legacy(http: httpx2.AsyncClient, chance: random.Random, outcome: Outcome) -> None:
    body = {"model_id": WRITER, "prompt": "abc", "max_new_tokens": chance.randint(1, 12), "do_sample": False}
    response = await http.post(f"{LEGACY}/generate", json=body)
    if _typed(response, outcome, "generate") and not response.json()["success"]:
        outcome.wrong.append(f"generate: {response.text[:200]}")


async def _unknown(http: httpx2.AsyncClient, chance: random.Random, outcome: Outcome) -> None:
    response = await http.post("/v1/chat/completions", json=_chat(chance, model=f"no/such{chance.randint(0, 9)}"))
    if response.status_code == 404 and response.json()["error"]["code"]:
        outcome.answered["unknown model"] += 1
    else:
        outcome.wrong.append(f"unknown model: {response.status_code} {response.text[:200]}")


async def _list(http: httpx2.AsyncClient, chance: random.Random, outcome: Outcome) -> None:
    response = await http.get(chance.choice(("/v1/models", "/health", "/metrics")))
    _typed(response, outcome, "lists")


Kind = Callable[[httpx2.AsyncClient, random.Random, Outcome], Awaitable[None]]
KINDS: tuple[Kind, ...] = (_whole, _whole, _stream, _stream, _leave, _leave, _embed, _embed, _legacy, _unknown, _list)


def settled(server: Running) -> Iterator[dict[str, float]]:
    """What still runs or waits, read again and again; empty when all has ended."""
    while True:
        yield gauges(server, "gpux_requests_running{", "gpux_requests_queued{", "gpux_rows{")
