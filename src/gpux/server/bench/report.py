"""The figures of a measurement, in the words of vLLM's ``vllm bench serve``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpux.server.bench.load import Measurement

#: Share of one processor core above which this client may be the limit of what it measures.
NEAR_ITS_LIMIT = 0.8
#: Seconds of delay in sending requests at a rate that are worth a remark.
_LATE = 0.05


@dataclass(frozen=True)
class Distribution:
    """Statistics of one latency, in milliseconds."""

    mean: float
    median: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Distribution | None:
        """The statistics of values in seconds; None without values. Percentiles are interpolated, as numpy does."""
        if not seconds:
            return None
        values = sorted(value * 1000 for value in seconds)
        return cls(math.fsum(values) / len(values), *(_percentile(values, share) for share in (0.5, 0.95, 0.99)))

    def to_dict(self) -> dict[str, float]:
        """JSON-able."""
        return {name: round(getattr(self, name), 3) for name in ("mean", "median", "p95", "p99")}


def _percentile(values: Sequence[float], share: float) -> float:
    """A quantile of sorted values, linear between neighbours."""
    place = (len(values) - 1) * share
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)


@dataclass(frozen=True)
class Report:
    """The figures of a measurement. Latencies are of requests that succeeded."""

    successful: int
    errors: dict[str, int]  #: failed requests by kind
    examples: dict[str, str]  #: a message for each kind
    unfinished: int  #: requests that ran when the measurement was interrupted
    interrupted: bool
    seconds: float
    input_tokens: int | None  #: None: the server does not count them
    output_tokens: int
    counted_chunks: int  #: successful requests whose tokens are counted as chunks of the stream
    ttft: Distribution | None  #: time to first token
    tpot: Distribution | None  #: time per output token, without the first one
    itl: Distribution | None  #: inter-token latency: between two chunks
    e2el: Distribution | None  #: end-to-end latency
    cpu_seconds: float  #: of this client
    sent_late: float | None  #: 99th percentile, in seconds; None: not at a rate
    highest: int  #: most requests at the same time

    @classmethod
    def of(cls, found: Measurement) -> Report:
        """The figures."""
        good = [sample for sample in found.samples if sample.error is None]
        bad = [sample for sample in found.samples if sample.error is not None]
        errors = Counter(sample.error or "" for sample in bad)
        outputs = [sample.chunks if sample.output_tokens is None else sample.output_tokens for sample in good]
        inputs = [sample.prompt_tokens for sample in good if sample.prompt_tokens is not None]
        streamed = found.endpoint.kind != "embeddings"
        late = Distribution.of(found.delays)
        return cls(
            successful=len(good),
            errors=dict(errors.most_common()),
            examples={sample.error or "": sample.message for sample in reversed(bad)},
            unfinished=found.unfinished,
            interrupted=found.interrupted,
            seconds=found.seconds,
            input_tokens=sum(inputs) if len(inputs) == len(good) else None,
            output_tokens=sum(outputs),
            counted_chunks=sum(sample.output_tokens is None for sample in good) if streamed else 0,
            ttft=Distribution.of([sample.first - sample.began for sample in good if sample.first is not None]),
            tpot=Distribution.of(
                [
                    (sample.last - sample.first) / (count - 1)
                    for sample, count in zip(good, outputs, strict=True)
                    if sample.first is not None and count > 1
                ]
            ),
            itl=Distribution.of([gap for sample in good for gap in sample.gaps]),
            e2el=Distribution.of([sample.ended - sample.began for sample in good]),
            cpu_seconds=found.cpu_seconds,
            sent_late=None if late is None else late.p99 / 1000,
            highest=_highest(found),
        )

    @property
    def failed(self) -> int:
        """The number of failed requests."""
        return sum(self.errors.values())

    @property
    def request_throughput(self) -> float:
        """Successful requests per second."""
        return self.successful / self.seconds if self.seconds else 0.0

    @property
    def output_throughput(self) -> float:
        """Generated tokens per second."""
        return self.output_tokens / self.seconds if self.seconds else 0.0

    @property
    def input_throughput(self) -> float | None:
        """Tokens of prompts or texts per second; None where the server does not count them."""
        return None if self.input_tokens is None or not self.seconds else self.input_tokens / self.seconds

    @property
    def client_share(self) -> float:
        """How much of one processor core this client used."""
        return self.cpu_seconds / self.seconds if self.seconds else 0.0

    def remarks(self) -> list[str]:
        """What a reader has to know about the figures."""
        found = []
        if self.interrupted:
            found.append(f"Interrupted: {self.unfinished} running requests are not counted.")
        if self.counted_chunks:
            found.append(
                f"The server sent no usage for {self.counted_chunks} requests: their tokens are counted as chunks of "
                "the stream, and a chunk may have several tokens."
            )
        if self.client_share >= NEAR_ITS_LIMIT:
            found.append(
                f"This client used {self.client_share:.0%} of one processor core, so that it may be the limit: the "
                "server may be faster. Use a lower concurrency or rate."
            )
        if self.sent_late is not None and self.sent_late >= _LATE:
            found.append(f"1% of the requests were sent more than {self.sent_late:.2f} s later than the rate demands.")
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; latencies in milliseconds, throughputs per second."""
        latencies = {"ttft_ms": self.ttft, "tpot_ms": self.tpot, "itl_ms": self.itl, "e2el_ms": self.e2el}
        return {
            "successful_requests": self.successful,
            "failed_requests": self.failed,
            "errors": self.errors,
            "unfinished_requests": self.unfinished,
            "interrupted": self.interrupted,
            "duration": round(self.seconds, 4),
            "total_input_tokens": self.input_tokens,
            "total_output_tokens": self.output_tokens,
            "tokens_counted_as_chunks": self.counted_chunks,
            "request_throughput": round(self.request_throughput, 4),
            "input_token_throughput": None if self.input_throughput is None else round(self.input_throughput, 3),
            "output_token_throughput": round(self.output_throughput, 3),
            "peak_concurrent_requests": self.highest,
            **{name: None if one is None else one.to_dict() for name, one in latencies.items()},
            "client_cpu_seconds": round(self.cpu_seconds, 4),
            "client_cpu_share": round(self.client_share, 4),
        }


def _highest(found: Measurement) -> int:
    """The most requests at the same time, of those that ended."""
    moments = sorted([(one.began, 1) for one in found.samples] + [(one.ended, -1) for one in found.samples])
    running = highest = 0
    for _, change in moments:
        running += change
        highest = max(highest, running)
    return highest
