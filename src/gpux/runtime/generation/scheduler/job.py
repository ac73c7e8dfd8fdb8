"""A request of the scheduler: one prompt, its sequences, and who is informed of their tokens."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpux.errors import GpuxError
from gpux.runtime.generation.choose.row import Emitted, Row
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.results import Timings


class Listener(Protocol):
    """Is informed of a job's tokens, in the thread that runs the scheduler, so it must return at once.

    An error that it raises ends its own job.
    """

    def stops(self, number: int, token: int) -> bool:
        """Called for each token except end tokens, right before :meth:`emitted`: does a stop text end with it?"""

    def emitted(self, emitted: Emitted) -> None:
        """A token of a sequence, or its end."""

    def ended(self, result: Timings | GpuxError) -> None:
        """The last call: every sequence has ended, or the job has failed."""


@dataclass(eq=False)
class Job:
    """One prompt with ``num_return_sequences`` sequences, while it waits, is read and is decoded."""

    request: DecodeRequest
    listener: Listener
    rows: list[Row]
    capacity: int  #: tokens of the longest sequence at its end, prompt included
    reuse: bool  #: whether it may begin with kept tokens, and its own are kept
    submitted: float  #: times are of ``time.monotonic()``
    begun: float | None = None
    first: float | None = None  #: time of the first token
    steps: int = 0
    reused: int = 0  #: tokens of the prompt that were already in the cache
    open: int = field(init=False)  #: sequences that have not ended
    ended: bool = False

    def __post_init__(self) -> None:
        self.open = len(self.rows)

    @property
    def prompt(self) -> NDArray[np.int64]:
        """The tokens of the prompt; valid until the first token is chosen."""
        return self.rows[0].ids

    def timings(self) -> Timings:
        """Where the time went."""
        now = time.monotonic()
        begun = self.begun or now
        first = self.first or now
        return Timings(
            prefill=first - begun,
            decode=now - first,
            steps=self.steps,
            reused_tokens=self.reused,
            queue=begun - self.submitted,
        )
