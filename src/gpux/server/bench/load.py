"""Sends requests at a concurrency or at a rate, after a check of the server, and collects their measurements."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle

from gpux.errors import ForbiddenError, GpuxError, ModelNotFoundError, ServerError, UnauthorizedError, UsageError
from gpux.server.bench import endpoint as kinds
from gpux.server.bench.endpoint import Connection, Connections, Endpoint, Sample
from gpux.server.bench.prompts import Prompt, of_words, random_prompts

#: Called with the number of requests that ended, and of those that failed.
Progress = Callable[[int, int], None]
#: Names of models in a message.
_SHOWN = 6


@dataclass(frozen=True)
class Load:
    """When requests are sent, and how many."""

    concurrency: int | None = 8  #: requests at the same time; None: by ``rate``
    rate: float | None = None  #: requests per second on average, which arrive at random (a Poisson process)
    requests: int | None = 100  #: None: until ``duration``
    duration: float | None = None  #: seconds after which no request begins
    warmup: int | None = None  #: requests before the measurement; None: the concurrency, and 2 at a rate
    seed: int = 0  #: of the prompts and the arrivals

    @property
    def warmups(self) -> int:
        """The number of requests before the measurement."""
        return self.warmup if self.warmup is not None else self.concurrency or 2


@dataclass
class Measurement:
    """What was measured."""

    endpoint: Endpoint  #: as the check of the server changed it
    load: Load
    samples: list[Sample] = field(default_factory=list)  #: of requests that ended
    unfinished: int = 0  #: requests that ran when the measurement was interrupted
    interrupted: bool = False
    seconds: float = 0.0  #: from the first request to the last answer
    cpu_seconds: float = 0.0  #: of this process in that time
    delays: list[float] = field(default_factory=list)  #: seconds by which requests at a rate were sent late


async def measure(
    endpoint: Endpoint,
    load: Load,
    *,
    prompt_tokens: int = 128,
    dataset: list[Prompt] | None = None,
    progress: Progress = lambda done, failed: None,
) -> Measurement:
    """Check the server, warm it up, and measure it. A cancellation ends the measurement and returns what there is.

    Args:
        endpoint: where requests are sent.
        load: when requests are sent.
        prompt_tokens: length of random prompts, at least two words. The server's count of the tokens of three prompts
            tells how many words that is; a server that does not count gets this number of words.
        dataset: prompts to send in order, again and again; random ones without it.
        progress: called after each request.

    Raises:
        ModelNotFoundError: the server does not have the model.
        UnauthorizedError: the server needs another key.
        ServerError: no server answers, it refuses the request, or it does not have OpenAI's API.
    """
    connections = Connections(endpoint.url, endpoint.key)
    connection = connections.open()
    try:
        if dataset is None:
            endpoint, words = await _calibrate(endpoint, connection, load.seed, prompt_tokens)
            # The warm-up has prompts of its own, so that a server has not kept the tokens of those that are measured.
            warming, measured = random_prompts(load.seed + 2, words), random_prompts(load.seed, words)
        else:
            endpoint, _ = await _check(endpoint, connection, dataset[0])
            warming, measured = cycle(dataset), cycle(dataset)
    finally:
        await connection.close()
    await _warm(endpoint, connections, warming, load)
    return await _Run(endpoint, load, connections, measured, progress).run()


async def with_only_model(endpoint: Endpoint) -> Endpoint:
    """The endpoint with the only model that its server lists; without a name where it lists none.

    A server of gpux lists a model as ``name`` and as ``name:precision``; the shorter name is taken.

    Raises:
        UsageError: there are several.
    """
    connection = Connections(endpoint.url, endpoint.key).open()
    try:
        known = await endpoint.models(connection) or [""]
    finally:
        await connection.close()
    shortest = min(known, key=len)
    if any(name != shortest and not name.startswith(f"{shortest}:") for name in known):
        raise UsageError(f"the server at {endpoint.url} has several models", hint=_listed(known))
    return endpoint.changed(model=shortest)


async def _calibrate(endpoint: Endpoint, connection: Connection, seed: int, tokens: int) -> tuple[Endpoint, int]:
    """The number of words of a prompt with so many tokens, from the server's count of three prompts.

    The first has one word, the second few, so that it is not too long for the model; the third has the number that
    follows from them, and corrects it.
    """
    chance = random.Random(seed + 1)  # noqa: S311 - other prompts than those of the measurement
    endpoint, sample = await _check(endpoint, connection, of_words(chance, 1))
    short, words = sample.prompt_tokens, max(2, tokens // 5)
    for _ in range(2):
        endpoint, sample = await _check(endpoint, connection, of_words(chance, words))
        if short is None or sample.prompt_tokens is None or sample.prompt_tokens <= short:
            return endpoint, tokens
        each = (sample.prompt_tokens - short) / (words - 1)
        words = max(2, round((tokens - short) / each) + 1)
    return endpoint, words


async def _check(endpoint: Endpoint, connection: Connection, prompt: Prompt) -> tuple[Endpoint, Sample]:
    """Send one request, without what the server does not know; returns the endpoint that it answers."""
    sample = await endpoint.send(connection, prompt)
    if sample.status in (400, 422) and endpoint.with_usage and "stream_options" in sample.message:
        return await _check(endpoint.changed(with_usage=False), connection, prompt)
    if sample.status == 400 and endpoint.limit_name == "max_tokens" and "max_completion_tokens" in sample.message:
        return await _check(endpoint.changed(limit_name="max_completion_tokens"), connection, prompt)
    if sample.error is not None:
        raise await _refusal(endpoint, connection, sample)
    return endpoint, sample


async def _warm(endpoint: Endpoint, connections: Connections, prompts: Iterator[Prompt], load: Load) -> None:
    """Send the requests of the warm-up, which must not all fail."""
    warming = Load(concurrency=load.concurrency or load.warmups, requests=load.warmups, seed=load.seed)
    if not load.warmups:
        return
    found = await _Run(endpoint, warming, connections, prompts, lambda done, failed: None).run()
    if found.interrupted:
        raise asyncio.CancelledError
    if all(sample.error is not None for sample in found.samples):
        connection = connections.open()
        try:
            raise await _refusal(endpoint, connection, found.samples[0])
        finally:
            await connection.close()


class _Run:
    """One measurement."""

    def __init__(
        self,
        endpoint: Endpoint,
        load: Load,
        connections: Connections,
        prompts: Iterator[Prompt],
        progress: Progress,
    ) -> None:
        self._found = Measurement(endpoint, load)
        self._connections = connections
        self._prompts = prompts
        self._progress = progress
        self._failed = 0
        self._running = 0
        self._idle: list[Connection] = []
        self._opened: list[Connection] = []

    async def run(self) -> Measurement:
        found, load = self._found, self._found.load
        self._progress(0, 0)
        began, cpu = time.perf_counter(), time.process_time()
        sending = asyncio.create_task(self._at_rate(load.rate) if load.rate else self._at_once(load.concurrency or 1))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            found.interrupted, found.unfinished = True, self._running
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            sending.cancel()
            await asyncio.wait([sending])
        last = max((sample.ended for sample in found.samples), default=began)
        found.seconds = (time.perf_counter() if found.interrupted else last) - began
        found.cpu_seconds = time.process_time() - cpu
        for connection in self._opened:
            await connection.close()
        return found

    def _begins(self) -> Iterator[None]:
        """One value for each request that may begin, until the number or the time is reached."""
        load, began, number = self._found.load, time.perf_counter(), 0
        while load.requests is None or number < load.requests:
            if load.duration is not None and time.perf_counter() - began >= load.duration:
                return
            number += 1
            yield

    async def _at_once(self, concurrency: int) -> None:
        begins = self._begins()

        async def client() -> None:
            for _ in begins:
                await self._send()

        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, self._found.load.requests or concurrency)):
                group.create_task(client())

    async def _at_rate(self, rate: float) -> None:
        chance = random.Random(self._found.load.seed)  # noqa: S311 - arrivals
        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in self._begins():
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                self._found.delays.append(time.perf_counter() - due)
                group.create_task(self._send())
                due += chance.expovariate(rate)

    async def _send(self) -> None:
        if self._idle:
            connection = self._idle.pop()
        else:
            connection = self._connections.open()
            self._opened.append(connection)
        self._running += 1
        try:
            sample = await self._found.endpoint.send(connection, next(self._prompts))
        finally:
            self._running -= 1
        self._idle.append(connection)
        self._found.samples.append(sample)
        self._failed += sample.error is not None
        self._progress(len(self._found.samples), self._failed)


async def _refusal(endpoint: Endpoint, connection: Connection, sample: Sample) -> GpuxError:
    """The error of a request that has to succeed for a measurement."""
    if sample.status is None:
        return _unreachable(endpoint, sample)
    if sample.status == 401:
        return UnauthorizedError(
            f"{endpoint.url} {'refuses the API key' if endpoint.key else 'needs an API key'}",
            hint="Set GPUX_API_KEY to a key of the server, or name one with --api-key.",
        )
    if sample.status == 403:
        return ForbiddenError(
            f"{endpoint.url} does not allow the request: {sample.message or 'status 403'}",
            hint="Use a key that may run this model.",
        )
    if sample.status in (400, 404, 422) and sample.message:
        known = await endpoint.models(connection)
        # A server may accept names that it does not list, so that the message of another error has to have the name.
        about_it = sample.status == 404 or endpoint.model in sample.message
        if sample.code == "model_not_found" or (known is not None and endpoint.model not in known and about_it):
            return _no_such_model(endpoint, known)
    if sample.status >= 500 or (sample.status >= 400 and sample.status not in (404, 405) and sample.message):
        return ServerError(
            f"{endpoint.address} answers with status {sample.status}: {sample.message or 'without a message'}",
            hint=_hint(sample),
            status=sample.status,
        )
    if sample.error and sample.error.startswith("error in the stream"):
        return ServerError(f"{endpoint.address} ends the stream with an error: {sample.message}", hint=_hint(sample))
    reason = sample.message or "without a message of OpenAI's form"
    what = f"status {sample.status}, " if sample.status != 200 else ""
    return ServerError(
        f"{endpoint.address} is not an endpoint of OpenAI's API: {what}{reason}",
        hint="Give the address below which the API is, such as http://127.0.0.1:8000/v1, and see --endpoint.",
    )


def _unreachable(endpoint: Endpoint, sample: Sample) -> ServerError:
    if sample.error == kinds.TIMEOUT:
        return ServerError(
            f"{endpoint.address} gives no complete answer within {endpoint.timeout:g} s",
            hint="A model may still be loading: try again, or allow more with --timeout.",
        )
    if sample.error == kinds.CONNECTION_LOST:
        return ServerError(
            f"the server at {endpoint.url} closes the connection: {sample.message}",
            hint="Check that it speaks HTTP, or HTTPS where the address begins with https.",
        )
    return ServerError(
        f"no server answers at {endpoint.url}: {sample.message}",
        hint="Check the address; `gpux serve` starts a server of gpux.",
    )


def _no_such_model(endpoint: Endpoint, known: list[str] | None) -> ModelNotFoundError:
    named = f"the model {endpoint.model}" if endpoint.model else "a model without a name"
    return ModelNotFoundError(f"the server at {endpoint.url} does not have {named}", hint=_listed(known or []))


def _listed(known: list[str]) -> str:
    if not known:
        return "Name a model of the server with --model."
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"It has {', '.join(known[:_SHOWN])}{more}: name one with --model."


def _hint(sample: Sample) -> str:
    if sample.status in (429, 502, 503, 504):
        return "The server is busy or loads the model: try again later."
    if sample.status is not None and sample.status >= 500:
        return "The log of the server has the reason."
    return "Check --endpoint, --prompt-tokens, --max-tokens and --extra-body."
