"""A head in 8 bits, with which a few tokens are told from all others for a quarter of the bytes.

Of a token's row ``w`` there is ``s q`` (:mod:`gpux.runtime.generation.rounded`), of what the graph has made of a token,
``x``, there is ``x'`` (:mod:`gpux.runtime.generation.rounded_graph`), so that a score is known up to an error
(Cauchy-Schwarz):

    |w x - s q x'|  <=  |w - s q| |x| + |s q| |x - x'|

``x'`` is the sum of two numbers of 7 bits, so that no sum of two products leaves 16 bits, which processors without VNNI
add in.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.runtime.devices import CPU, candidates
from gpux.runtime.generation.head import ROUNDING, Head, Rows
from gpux.runtime.generation.rounded import Rounded, rounded
from gpux.runtime.generation.rounded_graph import SECOND, graph_of
from gpux.runtime.onnx_runtime import load, mapped_errors
from gpux.system.machine import available_memory

log = logging.getLogger(__name__)

_PROBES = 4
#: A protobuf message is smaller than 2 GB.
_LARGEST = (1 << 31) - (64 << 20)
#: Share of all tokens above which looking at that many one by one takes longer than what is saved elsewhere.
_FEW = 0.01
_TRIAL = 256  # rows before which a few that cannot be told say nothing yet


class RoundedHead:
    """A head in 8 bits, ready to score all tokens within an error. Safe to use from many threads.

    Args:
        head: of which it is made.
        made: what was kept of each of its rows.
        session: of the graph of its products.
    """

    def __init__(self, head: Head, made: Rounded, session: Any) -> None:
        self.head, self.session = head, session
        self.nbytes = head.nbytes // 4 + made.scales.nbytes + made.lost.nbytes + made.lengths.nbytes
        self.checked = False  #: whether it was seen that the graph multiplies with this head
        self._wrong = False
        self._lost, self._lengths = made.lost, made.lengths
        self._most_lost, self._longest = float(made.lost.max()), float(made.lengths.max())
        #: of ``|x - x'|``, in units: half of the last place of the second number in each of its numbers
        self._missed = math.sqrt(head.shape[1]) / (2 * SECOND)
        # Of all rows so far: two threads at once may lose a row, which changes nothing that is written.
        self._asked = self._looked_at = 0

    @classmethod
    def of(
        cls, head: Head, threads: int, *, spinning: bool = False, stopped: Callable[[], bool] = lambda: False
    ) -> RoundedHead | None:
        """Of a head; None where it is too large or not finite, or onnxruntime's products are not within the bounds.

        None too where ``stopped``, which is asked again and again, says that nobody waits for it any more. While it is
        made it takes as much memory as the head.

        Args:
            head: of a decoder.
            threads: of one call.
            spinning: as of the graph whose head it is.
            stopped: see above.
        """
        words, size = head.shape
        available = available_memory()
        if words * size > _LARGEST or (available is not None and available < head.nbytes):
            log.info("%s: no memory for a head of %d bytes in 8 bits", head.path, head.nbytes)
            return None
        made = rounded(head, stopped)
        if made is None or stopped():
            return None
        matrix, rows = made
        graph = graph_of(matrix, rows.scales, rows.columns)
        del made, matrix  # onnxruntime makes copies of its own
        found = cls(head, rows, load(graph, candidates("cpu", (CPU,))[0], threads, spinning=spinning))
        return found if found.holds(rows.columns) else None

    @property
    def pays(self) -> bool:
        """Whether it is the graph's, and leaves so few tokens to be looked at that it is faster than the head."""
        return not self._wrong and self._looked_at <= max(self._asked, _TRIAL) * self.head.shape[0] * _FEW

    def count(self, tokens: int) -> None:
        """Of one row, so many tokens were looked at."""
        self._asked += 1
        self._looked_at += tokens

    def check(self, hidden: Rows, logits: Rows) -> None:
        """Compare the head with what the graph itself has made of the same, ``[rows, size]`` to ``[rows, vocabulary]``.

        The file may have been replaced since the graph was loaded. A head that is not the graph's does not pay. Numbers
        that are not finite tell nothing.
        """
        if not np.isfinite(hidden).all():
            return
        self.checked = True
        if not self.head.made(logits, hidden):
            log.info("%s is not what the graph's head multiplies with; all of the head is read", self.head.path)
            self._wrong = True

    def error(self, length: float, tokens: NDArray[np.int64] | slice = slice(None)) -> Rows:
        """What some tokens' scores are off by at most, ``[tokens]``, where ``|x|`` is ``length``; both in units."""
        by_length = np.float32(self._missed + ROUNDING * length)
        return np.asarray(self._lost[tokens] * np.float32(length) + self._lengths[tokens] * by_length)

    def largest_error(self, length: float) -> float:
        """No less than any of :meth:`error`."""
        return self._most_lost * length + self._longest * (self._missed + ROUNDING * length)

    def holds(self, columns: Rows) -> bool:
        """Whether this onnxruntime's products are within the bounds, for inputs of every size and of outliers."""
        hidden = np.random.default_rng(0).normal(size=(_PROBES, columns.size)).astype(np.float32)
        hidden[1:, 0] *= 10.0 ** np.arange(_PROBES - 1)
        hidden[-1] = np.sign(hidden[-1]) / columns  # every product as large as can be
        with mapped_errors(b""):
            near, unit, length = self.session.run(["near", "unit", "length"], {"hidden": hidden})
        off = np.abs(self.head.scores(hidden) / unit - near)
        held = all((row <= self.error(float(size))).all() for row, size in zip(off, length[:, 0], strict=True))
        if not held:
            log.info("this onnxruntime multiplies 8-bit numbers otherwise than expected; all of the head is read")
        return held
