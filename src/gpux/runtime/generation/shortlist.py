"""Scores of the few tokens that a choice is about, for most of which a step does not read the head.

The head of a small model is a fifth to a half of its weights, and all of them are read for every token. Where the
graph shows what its head reads, a step can leave the head out, and a head in 8 bits
(:mod:`gpux.runtime.generation.rounded_head`) tells which tokens can be the best; those alone are scored in full. The
tokens are the same. It takes a quarter of the head's memory, and is made when some hundred tokens were written.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpux.runtime.devices import CPU
from gpux.runtime.generation.calls import START, Caller
from gpux.runtime.generation.head import HIDDEN, find_head
from gpux.runtime.generation.scorer import Scorer
from gpux.runtime.generation.state import Ids, Scores
from gpux.runtime.session import Session
from gpux.system.background import in_background

if TYPE_CHECKING:
    from gpux.runtime.generation.rounded_head import RoundedHead

log = logging.getLogger(__name__)

#: Steps after which it is made: rounding a head takes as long as some five hundred steps save.
WORTH = 500
#: Bytes of a head below which it stays in the processor's caches.
LEAST = 16 << 20
#: Tokens that are scored one by one at most.
MOST = 128


class Shortlist:
    """A graph's rounded head, made when it has shown to be worth it. Safe to use from many threads.

    Args:
        session: the graph; any graph: one that it cannot be made for is read whole.
        worth: steps that could have left the head out, before it is made.
        least: bytes of the head.
    """

    def __init__(self, session: Session, *, worth: int = WORTH, least: int = LEAST) -> None:
        self._session, self._worth, self._least = session, worth, least
        self._steps = 0
        self._lock = threading.Lock()
        self._open, self._closed = _fits(session), False
        self.head: RoundedHead | None = None  #: None as long as there is none

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        head = self.head
        return 0 if head is None else head.nbytes

    def count(self, steps: int = 1) -> threading.Thread | None:
        """So many steps could have left the head out: when they are enough, it is rounded in the answered thread."""
        if not self._open:
            return None
        with self._lock:
            self._steps += steps
            if not self._open or self._steps < self._worth:
                return None
            self._open = False
        # No daemon: a program that ends while onnxruntime opens a session in a thread may crash.
        return in_background(self._make, "gpux-shortlist", daemon=False)

    def close(self) -> None:
        """Let go of its memory; may be called twice."""
        with self._lock:
            self._open, self._closed, self.head = False, True, None

    def _make(self) -> None:
        try:
            made = self._rounded()
        except Exception as exc:  # noqa: BLE001 - the end of a thread that nothing depends on: the graph goes on as before
            log.info("%s goes without a shortlist: %s", self._session.path, exc)
            return
        with self._lock:
            self.head = None if self._closed else made

    def _rounded(self) -> RoundedHead | None:
        # Deferred: it imports onnx, which most calls never need.
        from gpux.runtime.generation.rounded_head import RoundedHead

        session, head = self._session, find_head(self._session.path)
        if head is None or head.nbytes < self._least:
            return None
        return RoundedHead.of(head, session.threads, spinning=session.spinning, stopped=self._stopped)

    def _stopped(self) -> bool:
        """Whether nobody will use it: the model was closed, or the program ends."""
        return self._closed or self._session.closed or not threading.main_thread().is_alive()


class ShortCaller(Caller):
    """Steps of a graph that score no token; the best are found by a rounded head.

    Args:
        session: the graph.
        others: inputs that somebody else binds.
        head: of this graph.
    """

    def __init__(self, session: Session, others: Collection[str], head: RoundedHead) -> None:
        super().__init__(session, others)
        self._head, self._scorer = head, Scorer(head)
        self._whole = True  # the step that is prepared computes all scores
        self.best = 1  #: tokens whose scores are wanted

    @property
    def pays(self) -> bool:
        """Whether such steps are faster than those that read the whole head."""
        return self._head.pays

    def step(self, tokens: Ids, mask: NDArray[Any] | int, positions: Ids) -> Scores:
        """One token a row; the scores of the best, -inf of all others, a buffer that the next step overwrites.

        The first step of all with this head computes all scores: does the graph multiply with the same?
        """
        logits = super().step(tokens, mask, positions)
        if not self._whole:
            return self._scorer.scores(self.best)
        if not self._head.checked:
            self._head.check(self._scorer.hidden, logits)
        self.prepared = False
        return logits

    def close(self) -> None:
        """Let go of all memory; may be called twice."""
        self._scorer.close()
        super().close()

    def _prepare(self, rows: int) -> None:
        super()._prepare(rows)
        self._whole = not self._head.checked
        if not self._whole:
            self.binding.override(START, np.array([1], np.int64))  # behind the only token of the call
            self.binding.fetch(self._logits.name, np.empty((rows, 0, self.vocabulary), np.float32))
        self._scorer.prepare(rows)
        self.binding.fetch(HIDDEN, self._scorer.hidden[:, None])


def _fits(session: Session) -> bool:
    """Whether a graph shows what its head reads, can leave it out, and computes in float32 on the CPU."""
    shown = {spec.name: spec.dtype for spec in session.outputs}
    starts = any(spec.name == START for spec in session.optional)
    return starts and session.execution_provider == CPU and {shown.get("logits"), shown.get(HIDDEN)} == {"float32"}
