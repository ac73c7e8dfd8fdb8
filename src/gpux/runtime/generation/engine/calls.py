"""Calls of a decoder's graph: token ids, mask and positions in, logits out, all in bound memory."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UnsupportedError
from gpux.model.variant import TensorSpec
from gpux.runtime.generation.engine.state import Ids, Scores
from gpux.runtime.session import Session

#: Inputs that follow from the token ids of a text.
TOKENS = frozenset({"input_ids", "attention_mask", "position_ids", "cache_position", "use_cache_branch"})
#: An input of graphs that gpux converted: the first token of the call that gets scores, counted from the end if
#: negative; the default 0 scores all tokens.
START = "logits_start"
#: Tokens of a prompt in one call; more are not faster, and cost memory.
CHUNK = 512
#: Bytes of the logits of one call; with 150,000 words, 512 tokens would take 300 MB.
LOGITS_BYTES = 96 << 20


class Caller:
    """Calls one decoder's graph; a step of one token for each row binds only inputs that changed since the last step.

    Args:
        session: the graph.
        others: inputs that the owner of the caller binds: the cache, and the encoder's output.

    Raises:
        UnsupportedError: the graph has an unknown input, or no output ``logits``.
    """

    def __init__(self, session: Session, others: Collection[str]) -> None:
        self.binding = session.bind()
        self.prepared = False  #: whether inputs and logits of a step are bound, and a cache that does not move
        self._inputs = {spec.name: spec for spec in session.inputs if spec.name not in others}
        unknown = sorted(set(self._inputs) - TOKENS)
        if unknown:
            raise UnsupportedError(
                f"the graph has the inputs {', '.join(unknown)}, which gpux cannot derive from a text",
                hint="Run the graph yourself with gpux.Session.",
            )
        self._logits = _logits(session)
        self.vocabulary = vocabulary(self._logits)
        self._placed = "position_ids" in self._inputs
        self._counted = "cache_position" in self._inputs
        self._branches = "use_cache_branch" in self._inputs
        mask = self._inputs.get("attention_mask")
        #: Besides token ids and positions, a step changes only the mask.
        self._plain = mask is not None and mask.dtype == "int64" and not (self._counted or self._branches)
        self._ones = np.ones(0, self._dtype("attention_mask"))
        self._ids: NDArray[Any] = np.zeros((0, 1), np.int64)
        self._positions: NDArray[Any] = np.zeros((0, 1), np.int64)
        self._out: NDArray[Any] = np.zeros((0, 1, 0), np.float32)
        self._branch = np.zeros(1, np.bool_)
        self._keeps = any(spec.name == START for spec in session.optional)

    @property
    def tokens(self) -> int:
        """Tokens of one call: :data:`CHUNK`; fewer if the logits of all of them would exceed :data:`LOGITS_BYTES`."""
        return CHUNK if self._keeps else min(CHUNK, max(32, LOGITS_BYTES // (4 * self.vocabulary)))

    def ones(self, rows: int, total: int) -> NDArray[Any]:
        """The mask of rows of equal length without padding, ``[rows, total]``."""
        if self._ones.size < rows * total:
            self._ones = np.ones(max(rows * total, 2 * self._ones.size), self._ones.dtype)
        return self._ones[: rows * total].reshape(rows, total)

    def call(self, ids: NDArray[np.int64], mask: NDArray[Any], positions: NDArray[Any], keep: int = 0) -> Scores:
        """Read any number of tokens; returns scores after the last ``keep``, float32 ``[rows, keep, vocabulary]``.

        0 stands for all tokens. A graph without ``logits_start`` computes the scores of all of them.
        """
        self.prepared = False
        keep = keep or ids.shape[1]
        self._keep(keep)
        out = np.empty((len(ids), keep if self._keeps else ids.shape[1], self.vocabulary), self._logits_dtype())
        self._feed("input_ids", ids)
        self._feed("position_ids", positions)
        self._feed_mask(mask, ids.shape[1])
        self.binding.fetch(self._logits.name, out)
        self.binding.run()
        return _as_float32(out[:, -keep:], self._logits)

    def step(self, tokens: Ids, mask: NDArray[Any] | int, positions: Ids) -> Scores:
        """Read one token for each row, ``[rows]``; returns scores ``[rows, vocabulary]``, overwritten by the next step.

        This runs once for each token, right after the graph has emptied the processor's caches, so it does little: a
        mask of rows of equal length without padding is given as its width.
        """
        if not self.prepared:
            self._prepare(len(tokens))
        self._ids[:, 0] = tokens
        if self._placed:
            self._positions[:, 0] = positions
        if self.binding.copies:
            self._feed_tokens()
        if isinstance(mask, int):
            mask = self.ones(len(tokens), mask)
        if self._plain:
            self.binding.feed("attention_mask", mask)
        else:
            self._feed_mask(mask, 1)
        self.binding.run()
        return _as_float32(self._out, self._logits)[:, 0]

    def close(self) -> None:
        """Release all memory; may be called twice."""
        self.binding.close()

    def _prepare(self, rows: int) -> None:
        self._keep(1)
        self._ids = np.zeros((rows, 1), self._dtype("input_ids"))
        self._positions = np.zeros((rows, 1), self._dtype("position_ids"))
        self._out = np.empty((rows, 1, self.vocabulary), self._logits_dtype())
        self._feed_tokens()
        self.binding.fetch(self._logits.name, self._out)
        self.prepared = True

    def _feed_tokens(self) -> None:
        self._feed("input_ids", self._ids)
        self._feed("position_ids", self._positions)

    def _keep(self, count: int) -> None:
        """Request the scores of the last ``count`` tokens, if the graph has ``logits_start``."""
        if self._keeps:
            self.binding.override(START, np.array([-count], np.int64))

    def _feed_mask(self, mask: NDArray[Any], added: int) -> None:
        self._feed("attention_mask", mask)
        if self._counted:
            self._feed("cache_position", np.arange(mask.shape[1] - added, mask.shape[1]))
        if self._branches:
            self._branch[0] = mask.shape[1] > added
            self.binding.feed("use_cache_branch", self._branch)

    def _feed(self, name: str, array: NDArray[Any]) -> None:
        if name in self._inputs:
            self.binding.feed(name, np.ascontiguousarray(array, self._dtype(name)))

    def _dtype(self, name: str) -> np.dtype[Any]:
        return np.dtype(self._inputs[name].dtype if name in self._inputs else "int64")

    def _logits_dtype(self) -> np.dtype[Any]:
        return np.dtype("uint16" if self._logits.dtype == "bfloat16" else self._logits.dtype)


def vocabulary(logits: TensorSpec) -> int:
    """Size of the vocabulary, from the shape of the logits.

    Raises:
        UnsupportedError: that axis is dynamic.
    """
    size = logits.shape[-1]
    if not isinstance(size, int):
        raise UnsupportedError("the vocabulary size is not in the shape of the graph's logits")
    return size


def _logits(session: Session) -> TensorSpec:
    found = next((spec for spec in session.outputs if spec.name == "logits"), None)
    if found is None:
        raise UnsupportedError(f"{session.path.name} has no output named logits", hint="It may not be a decoder.")
    return found


def _as_float32(out: NDArray[Any], spec: TensorSpec) -> Scores:
    """The scores as float32; a bfloat16 is the upper half of a float32."""
    if spec.dtype == "bfloat16":
        return (out.astype(np.uint32) << 16).view(np.float32)
    return out if out.dtype == np.float32 else out.astype(np.float32)
