"""The metrics of a server, in the format of Prometheus, in a registry of their own.

Times of requests are measured in the worker and sent as durations, since clocks of two processes differ; the times to
the first token and between tokens are those at which pieces of text reach the server. Of an answer that is sent whole
there are no pieces: its first token counts with the time of the worker.

Tokens are counted when the worker has computed them, whatever becomes of the answer; that is the label ``outcome`` of
the request. A worker that is to cancel a request still says what it has computed. Of one that was killed, the tokens
whose text had reached the server are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from gpux import __version__
from gpux.errors import GpuxError
from gpux.server.context import Context
from gpux.server.observer import Observer, Watch
from gpux.server.stats import Stats
from gpux.server.workers.messages import Answered, Embedded, Generated, Last, Load, Piece, Ranked

#: Models with label values of their own; the requests of more than these count as ``other``.
MOST_MODELS = 256
OTHER = "other"
_REQUEST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class State:
    """What the metrics read of a loaded model when they are requested."""

    name: str
    running: int  #: requests that are answered
    queued: int  #: requests that wait
    rows: int  #: sequences of the current batch
    cache_bytes: int
    memory_bytes: int


class Metrics(Observer):
    """Everything that ``/metrics`` shows.

    Args:
        states: the loaded models, read at each request for the metrics.
        stats: what the server counts about its models.
    """

    def __init__(self, states: Callable[[], Iterable[State]], stats: Stats) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._names: set[str] = set()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"gpux_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"gpux_{name}", text, labels, buckets=buckets, registry=self.registry)

        http = ("api", "route")
        self._http = counter("http_requests", "Responses over HTTP", *http, "method", "status")
        self._http_seconds = histogram("http_request_seconds", "From request to the response's end", _REQUEST, *http)
        self._http_running = Gauge("gpux_http_requests_running", "Requests without an end", registry=self.registry)
        self._requests = counter("requests", "Requests to a model by their end", "model", "kind", "outcome")
        self._seconds = histogram("request_seconds", "From the worker's queue to the last reply", _REQUEST, "model")
        self._queue = histogram("queue_seconds", "Wait in the worker's queue", _REQUEST, "model")
        self._prefill = histogram("prefill_seconds", "Reading the prompt, until the first token", _REQUEST, "model")
        self._decode = histogram("decode_seconds", "From the first token to the last one", _REQUEST, "model")
        self._run = histogram("run_seconds", "Running the model, for tasks that generate no text", _REQUEST, "model")
        self._first = histogram("time_to_first_token_seconds", "Until the first text of an answer", _REQUEST, "model")
        self._between = histogram("time_between_tokens_seconds", "Between texts of a sequence", _TOKEN, "model")
        self._prompt = counter("prompt_tokens", "Tokens of prompts and texts", "model")
        self._cached = counter("cached_prompt_tokens", "Tokens of prompts that were not read again", "model")
        self._generated = counter("generated_tokens", "Generated tokens, also of answers that end early", "model")
        self._finished = counter("sequences", "Generated sequences", "model", "finish_reason")
        self._batch = histogram("batch_size", "Inputs or sequences of a run of the model", _BATCH, "model")
        self.registry.register(_Models(states, stats))
        ProcessCollector(registry=self.registry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics and their media type, in the format that a client accepts."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    @contextmanager
    def request(self) -> Iterator[Callable[[Context, int, float], None]]:
        """Count a request over HTTP; the block calls what it yields with the context, the status and the seconds."""
        self._http_running.inc()

        def ended(request: Context, status: int, seconds: float) -> None:
            self._http.labels(request.api, request.route, request.method, str(status)).inc()
            self._http_seconds.labels(request.api, request.route).observe(seconds)

        try:
            yield ended
        finally:
            self._http_running.dec()

    def reported(self, model: str, load: Load) -> None:
        """See :class:`Observer`."""
        batches = self._batch.labels(self._name(model))
        for size, count in load.batch_sizes.items():
            for _ in range(count):
                batches.observe(size)

    def watch(self, model: str, request: Any) -> Watch:
        """See :class:`Observer`."""
        return _Watch(self, self._name(model), type(request).__name__.lower())

    def _name(self, model: str) -> str:
        if model not in self._names:
            if len(self._names) >= MOST_MODELS:
                return OTHER
            self._names.add(model)
        return model

    def outcome(self, model: str, kind: str, outcome: str) -> None:
        """Count a request by what became of its answer."""
        self._requests.labels(model, kind, outcome).inc()

    def computed(self, model: str, reply: Last, first: bool) -> None:
        """Count what a worker has computed for a request; ``first``: no piece of text came before the last reply."""
        timing = reply.timing
        self._queue.labels(model).observe(timing.queue)
        if isinstance(reply, Generated):
            self._seconds.labels(model).observe(timing.queue + timing.prefill + timing.decode)
            self._prefill.labels(model).observe(timing.prefill)
            self._decode.labels(model).observe(timing.decode)
            if first and any(one.tokens for one in reply.sequences):
                self._first.labels(model).observe(timing.queue + timing.prefill)
            for one in reply.sequences:
                self._finished.labels(model, one.finish_reason).inc()
                if not one.tokens and one.finish_reason == "cancelled":
                    continue  # its prompt was not read
                self._prompt.labels(model).inc(one.prompt_tokens)
                self._cached.labels(model).inc(one.cached_tokens)
                self._generated.labels(model).inc(one.tokens)
            return
        self._seconds.labels(model).observe(timing.queue + timing.run)
        self._run.labels(model).observe(timing.run)
        if isinstance(reply, (Answered, Embedded, Ranked)):
            self._prompt.labels(model).inc(reply.tokens)

    def piece(self, model: str, seconds: float, first: bool) -> None:
        """Record the time to a piece of text."""
        (self._first if first else self._between).labels(model).observe(seconds)

    def lost(self, model: str, tokens: int) -> None:
        """Count the tokens of the pieces of a request that its worker did not end with a reply."""
        self._generated.labels(model).inc(tokens)


class _Watch(Watch):
    def __init__(self, metrics: Metrics, model: str, kind: str) -> None:
        self._metrics, self._model, self._kind = metrics, model, kind
        self._began = monotonic()
        self._last: dict[int, float] = {}  # number of a sequence -> arrival of its last piece
        self._tokens = 0  # of all pieces

    def piece(self, piece: Piece) -> None:
        self._tokens += piece.count
        now = monotonic()
        if not self._last:
            self._metrics.piece(self._model, now - self._began, first=True)
        elif (last := self._last.get(piece.number)) is not None:
            self._metrics.piece(self._model, now - last, first=False)
        self._last[piece.number] = now

    def ended(self, last: Last | None) -> None:
        if last is None:
            self._metrics.lost(self._model, self._tokens)
        else:
            self._metrics.computed(self._model, last, not self._last)

    def answered(self) -> None:
        self._metrics.outcome(self._model, self._kind, "ok")

    def failed(self, error: GpuxError | None) -> None:
        self._metrics.outcome(self._model, self._kind, "cancelled" if error is None else error.code)


def _most(counts: Mapping[str, float]) -> dict[str, float]:
    """The counts of the first :data:`MOST_MODELS` models, and the sum of the others."""
    names = list(counts)
    found = {name: counts[name] for name in names[:MOST_MODELS]}
    if rest := names[MOST_MODELS:]:
        found[OTHER] = sum(counts[name] for name in rest)
    return found


class _Models(Collector):
    """What is read of the models at the time of the request."""

    def __init__(self, states: Callable[[], Iterable[State]], stats: Stats) -> None:
        self._states, self._stats = states, stats

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        texts = {
            "running": ("gpux_requests_running", "Requests that a model answers now"),
            "queued": ("gpux_requests_queued", "Requests that wait for a model"),
            "rows": ("gpux_rows", "Sequences of the current batch"),
            "cache_bytes": ("gpux_cache_bytes", "Bytes of the KV caches"),
            "memory_bytes": ("gpux_model_memory_bytes", "Resident bytes of the model's process"),
        }
        states = list(self._states())
        for field, (name, text) in texts.items():
            family = GaugeMetricFamily(name, text, labels=["model"])
            for state in states:
                family.add_metric([state.name], getattr(state, field))
            yield family
        for name, text, counts in (
            ("gpux_load_failures", "Loads that failed", self._stats.load_failures),
            ("gpux_unloads", "Unloaded models, for whatever reason", self._stats.unloads),
            ("gpux_evictions", "Models that were unloaded for the memory of another one", self._stats.evictions),
            ("gpux_worker_deaths", "Processes of models that ended by themselves", self._stats.deaths),
            ("gpux_worker_restarts", "Loads after the end of a process, without a request", self._stats.restarts),
            ("gpux_requests_busy", "Requests that found the queue of the model full", self._stats.busy),
            ("gpux_requests_late", "Requests that took longer than the limit", self._stats.deadlines),
            ("gpux_slow_readers", "Requests whose client did not read", self._stats.slow_readers),
        ):
            counter = CounterMetricFamily(name, text, labels=["model"])
            for model, count in _most(counts).items():
                counter.add_metric([model], count)
            yield counter
        loads = SummaryMetricFamily("gpux_load_seconds", "Loading a model", labels=["model"])
        seconds = _most(self._stats.load_seconds)
        for model, count in _most(self._stats.loads).items():
            loads.add_metric([model], int(count), seconds.get(model, 0.0))
        yield loads
        yield CounterMetricFamily(
            "gpux_requests_overloaded", "Requests for which no memory became free", value=self._stats.overloaded
        )
        yield CounterMetricFamily("gpux_pulls", "Pulls that the server started", value=self._stats.pulls)
        loaded = sum(bool(state.memory_bytes) for state in states)
        yield GaugeMetricFamily("gpux_models_loaded", "Loaded models", value=loaded)
        yield InfoMetricFamily("gpux_server", "The server", value={"version": __version__})
