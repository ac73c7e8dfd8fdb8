"""Measure `gpux serve` against the same pipelines in process, and another server. ``./dev bench_server`` runs it.

    python -m scripts.bench_server --folder DIR --rounds 7 [--only overhead first …] [--infinity PYTHON]

Both sides take turns in every round, and a ratio is the median of the ratios of the rounds, so that other work on the
machine affects both. The client is a light one of raw sockets in this process; its own processor time is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile
from tests.models.digits_onnx import digits
from tests.models.minilm import minilm_repository
from tests.server.running import SPEECH, Running, put, serving

from gpux import Settings, pull_model
from gpux.convert.registry import find_toolchain
from gpux.store import Store
from gpux.system.machine import cpu_threads
from scripts.bench_generation_cases import Ratio
from scripts.bench_generation_models import Models
from scripts.bench_server_client import Connection, Load, encoded, form, load

ROOT = Path(__file__).parent.parent
SMALL = ROOT / "tests" / "models" / "small"
DIGITS = ROOT / "docs" / "notebooks" / "digits.flac"
HEADER = "| what | server | in process | measured | goal |\n|---|---|---|---|---|"
INTRODUCTION = (
    "Written by `python -m scripts.bench_server --rounds {rounds}`: `gpux serve` on loopback and the same pipeline in "
    "another process, {threads} threads each, in turn; times are medians, a ratio is the median of the ratios of the "
    "rounds, with the smallest and the largest. llama-100m has random weights, and prompts of other letters in every "
    "round. {note}"
)
TEXT = "the a of old new river house light stone under over cold small great train letter window garden music"
WORDS = TEXT.split()


@dataclass
class Bench:
    """The two sides, and the models that both have."""

    server: Running
    process: subprocess.Popen[str]
    rounds: int
    minilm: str
    small: str
    speech: str
    llamas: dict[str, str]  #: precision -> reference
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    def inside(self, task: str, **arguments: Any) -> dict[str, Any]:
        """Run a task in process."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(json.dumps([task, arguments]), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the process of the pipelines has ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def texts(self, count: int, least: int = 5, most: int = 40) -> list[str]:
        """Texts of random words."""
        return [" ".join(self.chance.choices(WORDS, k=self.chance.randint(least, most))) for _ in range(count)]

    def letters(self, count: int) -> str:
        """A prompt of as many tokens of llama-100m, which encodes a letter as a token."""
        return "".join(self.chance.choices("abcdefghijklmnopqrstuvwxyz", k=count))

    def embeddings(self, texts: Sequence[str], size: int, clients: int) -> Load:
        """Vectors of texts from several clients, some texts in a request."""
        parts = [list(texts[start : start + size]) for start in range(0, len(texts), size)]
        bodies = [encoded({"model": self.minilm, "input": part, "encoding_format": "base64"}) for part in parts]
        return asyncio.run(load(self.server.url, "/v1/embeddings", bodies, clients))

    def streams(self, model: str, prompts: Sequence[str], tokens: int) -> tuple[float, list[Any]]:
        """Streams of completions at once: seconds until the last has ended, and each."""

        async def run() -> tuple[float, list[Any]]:
            connections = [await Connection.open(self.server.url) for _ in prompts]
            began = time.perf_counter()
            calls = [
                one.stream("/v1/completions", {**GREEDY, "model": model, "prompt": prompt, "max_tokens": tokens})
                for one, prompt in zip(connections, prompts, strict=True)
            ]
            found = await asyncio.gather(*calls)
            seconds = time.perf_counter() - began
            await asyncio.gather(*(one.close() for one in connections))
            return seconds, list(found)

        return asyncio.run(run())

    def request(self, path: str, body: dict[str, Any], count: int) -> list[float]:
        """Seconds of each of several equal requests on one connection."""
        return asyncio.run(load(self.server.url, path, [encoded(body)] * count, 1)).latencies

    def unload(self, model: str) -> None:
        """Free a model on both sides."""
        self.inside("close", model=model)


GREEDY: dict[str, Any] = {"temperature": 0}


def main() -> int:
    """Print the table; returns 1 when a goal is missed."""
    arguments = _parser().parse_args()
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="gpux-bench-server-") as scratch, ExitStack() as stack:
        folder = Path(arguments.folder or scratch).resolve()
        chosen = [name for name in CASES if not arguments.only or name in arguments.only]
        home, bench_models = _models(folder, chosen)
        os.environ.update(GPUX_HOME=str(home), HF_HOME=str(home / "hf"), HF_HUB_OFFLINE="1")
        for name in chosen:
            if name in ("idle", "peer"):
                continue
            print(f"{name}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
            with _bench(home, arguments.rounds, bench_models) as bench:
                lines += _shown(CASES[name](bench))
        if "idle" in chosen:
            lines += _shown(idle(home))
        if "peer" in chosen and arguments.infinity:
            lines += _shown(peer(home, arguments, bench_models))
        stack.close()
    introduction = INTRODUCTION.format(rounds=arguments.rounds, threads=cpu_threads(), note=arguments.note)
    table = "\n".join([HEADER, *lines])
    print(f"{introduction}\n\n{table}")
    if arguments.append:
        with Path(arguments.append).open("a", encoding="utf-8") as page:
            page.write(f"\n## Server\n\n{introduction}\n\n{table}\n")
    return 1 if "missed" in table else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", help="where the models are kept for the next run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(CASES), help="measure only these")
    parser.add_argument("--infinity", help="interpreter of an environment with infinity-emb")
    parser.add_argument("--append", help="page that the table is added to")
    parser.add_argument("--note", default="", help="a sentence about the machine")
    return parser


def _models(folder: Path, chosen: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """The home folder with the models of the chosen cases, and their references."""
    toolchain = find_toolchain("mobius", Settings.from_env())
    toolchain.check_ready()
    home = folder / "home"
    settings = Settings.from_env(home=home, toolchains=toolchain.path.parent)
    found = {"minilm": str(folder / "minilm"), "small": str(SMALL), "speech": SPEECH}
    if not Path(found["minilm"]).is_dir():
        minilm_repository(Path(found["minilm"]), onnx=True)
    pull_model(found["minilm"], settings=settings)
    if {"overhead", "apis"} & set(chosen):
        pull_model(found["small"], settings=settings)
    if "speech" in chosen:
        with tempfile.TemporaryDirectory() as made:
            put(Store(settings.store), digits(Path(made) / "digits"), SPEECH)
    if {"first", "streams", "two"} & set(chosen):
        optimum = find_toolchain("optimum", Settings.from_env())
        models = Models(folder, optimum.python, None, cpu_threads())
        source = str(models.source("llama-100m"))
        for precision in ("fp32", "int4"):
            models.variant("llama-100m", precision)
            found[precision] = f"{source}:{precision}"
    return home, found


@contextmanager
def _bench(home: Path, rounds: int, models: dict[str, str]) -> Iterator[Bench]:
    command = [sys.executable, "-m", "scripts.bench_server_process"]
    with (
        serving(home, ("--keep-alive", "-1")) as server,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process,
    ):
        try:
            chosen: tuple[str, ...] = ("fp32", "int4")
            llamas = {precision: models[precision] for precision in chosen if precision in models}
            yield Bench(server, process, rounds, models["minilm"], models["small"], models["speech"], llamas)
        finally:
            process.kill()


def overhead(bench: Bench) -> Iterator[str]:
    """Milliseconds that a request takes longer than the call in process, at the median."""
    count = 60
    chat = [{"role": "user", "content": "Tell me a story."}]
    body = {"model": bench.small, "messages": chat, "max_tokens": 8, "temperature": 0}
    text = bench.texts(1, 11, 11)

    def chats() -> tuple[float, float]:
        served = bench.request("/v1/chat/completions", body, count)
        inside = [bench.inside("generate", model=bench.small, prompt=chat, tokens=8)["seconds"] for _ in range(count)]
        return statistics.median(served), statistics.median(inside)

    def texts() -> tuple[float, float]:
        embedding = {"model": bench.minilm, "input": text, "encoding_format": "base64"}
        served = bench.request("/v1/embeddings", embedding, count)
        inside = bench.inside("embed", model=bench.minilm, texts=text * count, single=True)["latencies"]
        return statistics.median(served), statistics.median(inside)

    for what, run in (("small model, chat of 8 tokens", chats), ("MiniLM, one text of 11 words", texts)):
        run()  # loaded, and warmed up
        found = [run() for _ in range(bench.rounds)]
        more = [1e3 * (served - inside) for served, inside in found]
        served, inside = (1e3 * statistics.median(pair[side] for pair in found) for side in (0, 1))
        measured = f"{statistics.median(more):+.2f} ms ({min(more):+.2f} to {max(more):+.2f})"
        goal = _goal("≤", 2, statistics.median(more) <= 2, " ms")
        yield f"| {what} | {served:.2f} ms | {inside:.2f} ms | {measured} | {goal} |"


#: What each API is sent for the same work as one of ``/v1``, whose path comes first.
Requests = Sequence[tuple[str, str, dict[str, Any]]]


def apis(bench: Bench) -> Iterator[str]:
    """Milliseconds that a request of each API takes longer than the same one of ``/v1``, at the median.

    The requests of a round take turns, each time in another order, so that those of a pair are close in time.
    """
    count = 60
    for what, requests in (
        ("small model, chat of 8 tokens", _chats(bench.small)),
        ("small model, continuation of 8 tokens", _continuations(bench.small)),
        ("MiniLM, one text of 11 words", _vectors(bench.minilm, bench.texts(1, 11, 11)[0])),
        ("MiniLM, a query and a text of 11 words", _rankings(bench.minilm, bench.texts(2, 11, 11))),
    ):
        asyncio.run(_turns(bench.server.url, requests, 5))  # loaded, and warmed up
        rounds = [asyncio.run(_turns(bench.server.url, requests, count)) for _ in range(bench.rounds)]
        (_, base, _), *others = requests
        for place, (name, path, _) in enumerate(others, 1):
            more = [1e3 * statistics.median(b - a for a, b in zip(one[0], one[place], strict=True)) for one in rounds]
            served, plain = (1e3 * statistics.median(statistics.median(one[at]) for one in rounds) for at in (place, 0))
            measured = f"{statistics.median(more):+.2f} ms ({min(more):+.2f} to {max(more):+.2f})"
            goal = _goal("≤", 1, statistics.median(more) <= 1, " ms")
            shown = path.replace(bench.small, "{id}").replace(bench.minilm, "{id}")
            yield f"| {what}: {name} `{shown}` | {served:.2f} ms | `{base}` {plain:.2f} ms | {measured} | {goal} |"


async def _turns(url: str, requests: Requests, count: int) -> list[list[float]]:
    """Seconds of each request, ``count`` times, on one connection."""
    connection = await Connection.open(url)
    bodies = [(path, encoded(body)) for _, path, body in requests]
    found: list[list[float]] = [[] for _ in requests]
    for turn in range(count):
        for step in range(len(requests)):
            place = (turn + step) % len(requests) if turn % 2 else (turn - step) % len(requests)
            began = time.perf_counter()
            await connection.post(*bodies[place])
            found[place].append(time.perf_counter() - began)
    await connection.close()
    return found


def _chats(model: str) -> Requests:
    messages = [{"role": "user", "content": "Tell me a story."}]
    chat = {"model": model, "messages": messages, "max_tokens": 8, "temperature": 0}
    ollama = {"model": model, "messages": messages, "stream": False, "options": {"num_predict": 8, "temperature": 0}}
    return (
        ("OpenAI", "/v1/chat/completions", chat),
        ("Ollama", "/api/chat", ollama),
        ("Anthropic", "/v1/messages", chat),
        ("Hugging Face", f"/models/{model}/v1/chat/completions", chat),
    )


def _continuations(model: str) -> Requests:
    prompt = "Tell me a story."
    ollama = {"model": model, "prompt": prompt, "raw": True, "stream": False}
    parameters = {"max_new_tokens": 8, "do_sample": False}
    return (
        ("OpenAI", "/v1/completions", {"model": model, "prompt": prompt, "max_tokens": 8, "temperature": 0}),
        ("Ollama", "/api/generate", {**ollama, "options": {"num_predict": 8, "temperature": 0}}),
        ("Hugging Face", f"/models/{model}", {"inputs": prompt, "parameters": parameters}),
    )


def _vectors(model: str, text: str) -> Requests:
    return (
        ("OpenAI", "/v1/embeddings", {"model": model, "input": text}),
        ("Ollama", "/api/embed", {"model": model, "input": text}),
        ("Hugging Face", f"/models/{model}", {"inputs": text, "normalize": True}),
        ("TEI", "/embed", {"model": model, "inputs": text}),
    )


def _rankings(model: str, texts: list[str]) -> Requests:
    query, document = texts
    return (
        ("Jina", "/v1/rerank", {"model": model, "query": query, "documents": [document]}),
        ("Cohere", "/v2/rerank", {"model": model, "query": query, "documents": [document]}),
        ("TEI", "/rerank", {"model": model, "query": query, "texts": [document]}),
    )


def speech(bench: Bench) -> Iterator[str]:
    """A minute of sound, uploaded and transcribed, against the same file in process."""
    samples, rate = soundfile.read(DIGITS, dtype="int16")
    minute = np.resize(samples, 60 * rate)
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        soundfile.write(file.name, minute, rate)
        sound = Path(file.name).read_bytes()
        body, kind = form({"model": bench.speech}, "file", "minute.wav", sound)

        def served() -> tuple[float, str]:
            async def send() -> bytes:
                connection = await Connection.open(bench.server.url)
                try:
                    return await connection.post("/v1/audio/transcriptions", body, kind)
                finally:
                    await connection.close()

            began = time.perf_counter()
            text = json.loads(asyncio.run(send()))["text"]
            return time.perf_counter() - began, text

        def inside() -> tuple[float, str]:
            found = bench.inside("transcribe", model=bench.speech, path=file.name)
            return found["seconds"], found["text"].strip()

        if served()[1] != inside()[1]:
            raise RuntimeError("the texts of the two sides differ")
        found = []
        for turn in range(bench.rounds):
            pair = (served()[0], inside()[0]) if turn % 2 else (inside()[0], served()[0])[::-1]
            found.append(pair)
    size = f"{len(sound) / 1e6:.1f} MB"
    yield _ratio_line(f"digits, 60 s of sound ({size}) uploaded and transcribed", found, "ms", at_most=1.1)


def first(bench: Bench) -> Iterator[str]:
    """Time to the first text of a prompt of 512 tokens."""
    for precision, model in bench.llamas.items():

        def run(model: str = model) -> tuple[float, float]:
            prompt = bench.letters(512)
            served = bench.streams(model, [prompt], 4)[1][0].moments[0]
            return served, bench.inside("generate", model=model, prompt=prompt, tokens=4)["first"]

        run()
        found = [run() for _ in range(bench.rounds)]
        bench.unload(model)
        yield _ratio_line(f"llama-100m, {precision}, first text after a prompt of 512", found, "ms", at_most=1.1)


def bulk(bench: Bench) -> Iterator[str]:
    """Texts of many clients against one call with all of them."""
    clients, size = 64, 16
    texts = bench.texts(clients * size)
    cpu = []

    def run() -> tuple[float, float]:
        served = bench.embeddings(texts, size, clients)
        cpu.append(served.cpu)
        return bench.inside("embed", model=bench.minilm, texts=texts)["seconds"], served.seconds

    run()
    found = [run() for _ in range(bench.rounds)]
    rates = Ratio(tuple(inside / served for inside, served in found))
    inside, served = (len(texts) / statistics.median(pair[side] for pair in found) for side in (0, 1))
    goal = _goal("≥", 0.85, rates.median >= 0.85)
    what = f"MiniLM, {clients} clients with {size} texts a request, texts/s; the client takes {max(cpu):.2f} s of CPU"
    yield f"| {what} | {served:.0f} | {inside:.0f} | {rates} | {goal} |"


def single(bench: Bench) -> Iterator[str]:
    """Processor time of the server and of the pipe for a request with one text, and its latencies."""
    count, clients = 400, 8
    texts = bench.texts(count, 11, 11)
    server = psutil.Process(bench.server.process.pid)
    bench.embeddings(texts[:64], 1, clients)
    (worker,) = server.children()

    def spent(process: psutil.Process) -> float:
        times = process.cpu_times()
        return float(times.user + times.system)

    serving_costs, pipe, tails, middles = [], [], [], []
    for _ in range(bench.rounds):
        before = spent(server), spent(worker)
        found = bench.embeddings(texts, 1, clients)
        after = spent(server), spent(worker)
        inside = bench.inside("embed", model=bench.minilm, texts=texts, single=True)
        serving_costs.append(1e3 * (after[0] - before[0]) / count)
        pipe.append(1e3 * (after[1] - before[1] - inside["cpu"]) / count)
        middles.append(statistics.median(found.latencies))
        tails.append(statistics.quantiles(found.latencies, n=100)[98])
    for what, costs in (("server", serving_costs), ("worker beyond the call in process", pipe)):
        cost = statistics.median(costs)
        measured = f"{cost:.2f} ms ({min(costs):.2f} to {max(costs):.2f})"
        goal = _goal("≤", 1, cost <= 1, " ms")
        yield f"| MiniLM, one text a request: processor time, {what} |  |  | {measured} | {goal} |"
    tail = Ratio(tuple(slow / middle for slow, middle in zip(tails, middles, strict=True)))
    middle = f"{1e3 * statistics.median(middles):.1f} ms"
    yield f"| the same, {clients} clients: p99 / median | {middle} |  | {tail} | {_goal('≤', 3, tail.median <= 3)} |"


def streams(bench: Bench) -> Iterator[str]:
    """Tokens a second of eight streams against one."""
    tokens, rows = 128, 8
    for precision, model in bench.llamas.items():

        def run(model: str = model) -> tuple[float, float]:
            one = bench.streams(model, [bench.letters(32)], tokens)
            many = bench.streams(model, [bench.letters(32) for _ in range(rows)], tokens)
            return sum(len(each.texts) for each in many[1]) / many[0], len(one[1][0].texts) / one[0]

        run()
        found = [run() for _ in range(bench.rounds)]
        gain = Ratio(tuple(many / one for many, one in found))
        many, one = (statistics.median(pair[side] for pair in found) for side in (0, 1))
        least = {"fp32": 4.0, "int4": 2.0}[precision]
        goal = _goal("≥", least, gain.median >= least)
        what = f"llama-100m, {precision}, {rows} streams of {tokens} tokens / one, pieces of text/s"
        yield f"| {what} | {many:.0f} / {one:.0f} |  | {gain} | {goal} |"


def two(bench: Bench) -> Iterator[str]:
    """Throughput of two busy models: the sum of the parts of what each does alone."""
    texts = bench.texts(256)
    model = bench.llamas["fp32"]

    async def embedding(seconds: float) -> float:
        body = encoded({"model": bench.minilm, "input": texts[:16], "encoding_format": "base64"})
        return await _rate(bench.server.url, lambda one: one.post("/v1/embeddings", body), 4, seconds)

    async def generating(seconds: float) -> float:
        body = {**GREEDY, "model": model, "prompt": bench.letters(32), "max_tokens": 32}
        return await _rate(bench.server.url, lambda one: one.post("/v1/completions", encoded(body)), 4, seconds)

    async def both(seconds: float) -> tuple[float, float]:
        found = await asyncio.gather(embedding(seconds), generating(seconds))
        return found[0], found[1]

    length = 6.0
    asyncio.run(both(3.0))
    sums = []
    for _ in range(bench.rounds):
        vectors, texts_alone = asyncio.run(embedding(length)), asyncio.run(generating(length))
        together = asyncio.run(both(length))
        sums.append(together[0] / vectors + together[1] / texts_alone)
    total = Ratio(tuple(sums))
    goal = _goal("≥", 0.85, total.median >= 0.85)
    yield f"| MiniLM and llama-100m busy at once, sum of the parts of their rates alone |  |  | {total} | {goal} |"


async def _rate(url: str, send: Callable[[Connection], Any], clients: int, seconds: float) -> float:
    """Requests a second of several clients."""
    connections = [await Connection.open(url) for _ in range(clients)]
    end, count = time.perf_counter() + seconds, 0

    async def client(connection: Connection) -> None:
        nonlocal count
        while time.perf_counter() < end:
            await send(connection)
            count += 1

    began = time.perf_counter()
    await asyncio.gather(*map(client, connections))
    elapsed = time.perf_counter() - began
    await asyncio.gather(*(one.close() for one in connections))
    return count / elapsed


def idle(home: Path) -> Iterator[str]:
    """Memory and processor time of a server without models."""
    seconds = 10.0
    with serving(home) as server:
        time.sleep(2.0)
        process = psutil.Process(server.process.pid)
        before = sum(process.cpu_times()[:2])
        time.sleep(seconds)
        busy = 100 * (sum(process.cpu_times()[:2]) - before) / seconds
        size = process.memory_info().rss / 1e6
    yield f"| a server without models, resident | {size:.1f} MB |  |  | {_goal('≤', 60, size <= 60, ' MB')} |"
    yield f"| the same, processor time | {busy:.1f} % |  |  | {_goal('≤', 0.5, busy <= 0.5, ' %')} |"


def peer(home: Path, arguments: argparse.Namespace, models: dict[str, str]) -> Iterator[str]:
    """Texts of many clients, against infinity-emb with torch."""
    clients, size = 64, 16
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(arguments.infinity).parent / "infinity_emb"), "v2", "--model-id", models["minilm"]]
    command += [
        "--served-model-name",
        "minilm",
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--device",
        "cpu",
        "--engine",
        "torch",
        "--no-bettertransformer",
    ]
    url = f"http://127.0.0.1:{port}"
    log = (home / "infinity.log").open("wb")
    with subprocess.Popen(command, stdout=log, stderr=log) as other, _bench(home, arguments.rounds, models) as bench:
        try:
            texts = bench.texts(clients * size)
            parts = [texts[start : start + size] for start in range(0, len(texts), size)]
            bodies = [encoded({"model": "minilm", "input": part}) for part in parts]
            bodies_of_ours = [encoded({"model": bench.minilm, "input": part}) for part in parts]
            _until_it_answers(url, bodies[0], other)

            def run() -> tuple[float, float]:
                ours = asyncio.run(load(bench.server.url, "/v1/embeddings", bodies_of_ours, clients)).seconds
                return ours, asyncio.run(load(url, "/embeddings", bodies, clients)).seconds

            run()
            found = [run() for _ in range(arguments.rounds)]
        finally:
            other.terminate()
    gain = Ratio(tuple(theirs / ours for ours, theirs in found))
    ours, theirs = (len(texts) / statistics.median(pair[side] for pair in found) for side in (0, 1))
    goal = _goal("≥", 1.2, gain.median >= 1.2)
    what = f"MiniLM, {clients} clients with {size} texts, texts/s; infinity-emb has {theirs:.0f}"
    yield f"| {what} | {ours:.0f} |  | {gain} | {goal} |"


def _until_it_answers(url: str, body: bytes, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 300
    while True:
        try:
            asyncio.run(load(url, "/embeddings", [body], 1))
            return
        except (OSError, RuntimeError, asyncio.IncompleteReadError):
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.5)


#: Name of a case -> its lines.
CASES: dict[str, Callable[[Any], Iterator[str]]] = {
    "overhead": overhead,
    "apis": apis,
    "speech": speech,
    "first": first,
    "bulk": bulk,
    "single": single,
    "streams": streams,
    "two": two,
    "idle": idle,
    "peer": lambda _: iter(()),
}


def _ratio_line(what: str, found: Sequence[tuple[float, float]], unit: str, *, at_most: float) -> str:
    times = Ratio(tuple(served / inside for served, inside in found))
    served, inside = (1e3 * statistics.median(pair[side] for pair in found) for side in (0, 1))
    goal = _goal("≤", at_most, times.median <= at_most)
    return f"| {what} | {served:.1f} {unit} | {inside:.1f} {unit} | {times} | {goal} |"


def _goal(sign: str, goal: float, met: bool, unit: str = "") -> str:
    return f"{sign} {goal:g}{unit} {'met' if met else 'missed'}"


def _shown(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        print(line, file=sys.stderr, flush=True)
        yield line


if __name__ == "__main__":
    sys.exit(main())
