"""Cases, goals and rounds of the generation benchmark."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scripts.bench_generation_models import Models
from scripts.bench_generation_process import Contender

NEW = 64  #: tokens of one generation
REST = 0.25  #: seconds of pause, in which the spinning threads of the previous contender go to sleep
#: Contenders in gpux's process; the closest ones run next to each other, since the machine's speed drifts.
HERE = ("pipeline", "copying", "bound", "engine")
#: Tokens that each process generates as a warm-up, and seconds of pause after it: gpux moves weights to huge pages only
#: after many tokens.
WARM, SETTLE = 640, 3.0
WORDS = 32000  #: the smaller vocabulary
_PEER = "scripts.bench_generation_peers"


@dataclass(frozen=True)
class Case:
    """One model with prompts of one length.

    Args:
        model: name among ``bench_generation_models.SOURCES``.
        precision: precision of gpux's variant.
        prompt: tokens of each prompt.
        batch: prompts in one batch.
        peers: peer name -> minimum speed of gpux relative to the peer's; None: no goal.
        copying: minimum speed of gpux's steps relative to those of the copying loop.
    """

    model: str
    precision: str
    prompt: int
    batch: int
    peers: Mapping[str, float | None] = field(default_factory=dict)
    copying: float | None = None

    @property
    def name(self) -> str:
        """The name for ``--only``."""
        return f"{self.model}/{self.precision}/{self.prompt}x{self.batch}"

    @property
    def prompts(self) -> list[list[int]]:
        """Token ids, the same in every run."""
        return prompts(self.prompt, self.batch)

    def rounds(self, requested: int) -> int:
        """The number of rounds: half of the requested ones for long prompts."""
        return max(1, requested // 2) if self.prompt > 100 else requested


def _cases(model: str, precision: str, long: int, goals: Mapping[str, float], copying: float | None) -> Iterator[Case]:
    """Cases of one model; goals and the comparison of a reduced precision with torch are for one short prompt only."""
    yield Case(model, precision, 32, 1, goals)
    others = dict.fromkeys(peer for peer in goals if precision == "fp32" or peer != "torch")
    for prompt, batch in ((long, 1), (32, 8), (long, 8)):
        yield Case(model, precision, prompt, batch, others, copying if (prompt, batch) == (long, 8) else None)


#: GPT-2's context is 1,024 tokens, including the new ones.
CASES = (
    *_cases("llama-100m", "fp32", 1024, {"torch": 2.5, "optimum": 1.25, "genai": 0.95}, 1.35),
    *_cases("llama-100m", "int4", 1024, {"torch": 9.0, "genai": 1.10}, 1.5),
    *_cases("gpt2", "fp32", 1024 - NEW, {"torch": 1.9, "optimum": 1.6}, None),
)


@dataclass(frozen=True)
class Run:
    """One generation by one contender."""

    stamps: Sequence[float]  #: seconds until each token; a single one where only the end is known
    tokens: list[list[int]]

    @property
    def speed(self) -> float:
        """Tokens per second of all rows, from the call to the last token."""
        return sum(map(len, self.tokens)) / self.stamps[-1]

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.stamps[0]

    @property
    def step(self) -> float:
        """Seconds of a step after the first token; the median, which other load on the machine affects least."""
        return float(np.median(np.diff(self.stamps)))


@dataclass(frozen=True)
class Ratio:
    """The ratio of two contenders in each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The ratio to report."""
        return statistics.median(self.rounds)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({min(self.rounds):.2f} to {max(self.rounds):.2f})"


Rounds = dict[str, list[Run]]
Entry = Callable[..., Any]  #: called with ``new``, the number of tokens


def ratio(above: Sequence[Run], below: Sequence[Run], figure: Callable[[Run], float]) -> Ratio:
    """The ratio of a figure in each round."""
    return Ratio(tuple(figure(one) / figure(other) for one, other in zip(above, below, strict=True)))


def prompts(tokens: int, rows: int) -> list[list[int]]:
    """Random token ids; each row has its own seed."""
    return [np.random.default_rng(row).integers(300, WORDS, tokens).tolist() for row in range(rows)]


class Field:
    """All contenders of one model, each started at its first use and closed together.

    Args:
        models: the models that they run.
        logs: folder for the logs of their processes.
        skipped: names of peers that are not run.
    """

    def __init__(self, models: Models, logs: Path, skipped: Sequence[str] = ()) -> None:
        self._models, self._logs = models, logs
        self._skipped = {*skipped, *([] if models.genai else ["genai"])}
        self._running: dict[tuple[str, ...], Contender] = {}

    def gpux(self, model: str, precision: str) -> Contender:
        """gpux's process, with the bare loops."""
        return self._started(
            ("gpux", model, precision),
            lambda: (Path(sys.executable), "scripts.bench_generation_gpux", [self._models.variant(model, precision)]),
        )

    def peer(self, name: str, model: str, precision: str) -> Contender:
        """The process of a peer."""
        models = self._models
        starts: dict[str, Callable[[], tuple[Path, str, list[object]]]] = {
            "torch": lambda: (models.toolchain, _PEER, ["transformers", models.source(model)]),
            "optimum": lambda: (models.toolchain, _PEER, ["optimum", models.exported(model)]),
            "genai": lambda: (models.genai or Path(), _PEER, ["genai", models.built(model, precision)]),
        }
        return self._started((name, model, precision if name == "genai" else "fp32"), starts[name])

    def peers(self, case: Case) -> list[str]:
        """Names of the peers that are available for a case."""
        return [name for name in case.peers if name not in self._skipped]

    def _started(self, key: tuple[str, ...], start: Callable[[], tuple[Path, str, list[object]]]) -> Contender:
        if key not in self._running:
            python, module, arguments = start()
            log = self._logs / f"{'-'.join(key)}.log"
            started = Contender(python, module, arguments, self._models.threads, log)
            started.call("engine" if key[0] == "gpux" else "write", prompts=prompts(32, 1), new=WARM)
            time.sleep(SETTLE)
            self._running[key] = started
        return self._running[key]

    def close(self) -> None:
        """End all processes."""
        while self._running:
            self._running.popitem()[1].close()


@contextmanager
def field_of(models: Models, logs: Path, skipped: Sequence[str]) -> Iterator[Field]:
    """Contenders that are closed at the end of the context."""
    opened = Field(models, logs, skipped)
    try:
        yield opened
    finally:
        opened.close()


def race(field: Field, case: Case, rounds: int) -> Rounds:
    """Run all warmed-up contenders alternately, every other round in the opposite order."""
    gpux, given = field.gpux(case.model, case.precision), {"prompts": case.prompts}
    entries: dict[str, Entry] = {how: partial(gpux.call, how, **given) for how in HERE}
    for name in reversed(field.peers(case)):  # the fastest runs last
        entries[name] = partial(field.peer(name, case.model, case.precision).call, "write", **given)
    return alternate(entries, case.rounds(rounds))


def alternate(entries: Mapping[str, Entry], rounds: int, new: int = NEW) -> Rounds:
    """Call each entry ``rounds`` times in the order A B C, C B A, after a short call of each that is not counted."""
    found: Rounds = {name: [] for name in entries}
    for call in entries.values():
        call(new=3)
    for number in range(rounds):
        for name in list(entries)[:: -1 if number % 2 else 1]:
            time.sleep(REST)
            found[name].append(Run(**entries[name](new=new)))
    return found
