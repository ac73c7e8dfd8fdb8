"""An independent check of decoders with a KV cache: the original runs every row alone, without cache or padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.coverage_graphs import Arrays, Graph, Original, RefusedRun
from scripts.coverage_inputs import Inputs
from scripts.coverage_verdict import Verdict

STEPS, CHUNK = 4, 3
_BEYOND = 24  # tokens beyond the positions that the configuration declares


@dataclass
class Cache:
    """The cache and attention mask of one batch that a graph is run on."""

    graph: Graph
    past: Arrays
    mask: NDArray[np.int64]  #: rows × all tokens so far
    fed: int = 0
    answers: list[NDArray[Any]] = field(default_factory=list)

    def feed(self, tokens: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[Any]:
        """Run the next tokens and return their logits."""
        self.mask = np.concatenate([self.mask, mask], axis=1)
        positions = np.clip(self.mask.cumsum(axis=1) - 1, 0, None)[:, -tokens.shape[1] :]
        given: Arrays = {"input_ids": tokens, "attention_mask": self.mask, "position_ids": positions, **self.past}
        feed = {name: _typed(given, name, self.graph, tokens.shape) for name in self.graph.inputs}
        answer = self.graph.run(feed)
        self.past = {name: answer[name.replace("past_key_values", "present")] for name in self.past}
        return answer["logits"]


def _typed(given: Arrays, name: str, graph: Graph, shape: tuple[int, ...]) -> NDArray[Any]:
    if name not in given and name != "token_type_ids":
        raise RefusedRun(f"the input {name} is unknown here")
    return np.ascontiguousarray(given.get(name, np.zeros(shape)), dtype=graph.inputs[name][0])


def empty_past(graph: Graph, rows: int) -> Arrays:
    """An empty cache: axis 0 is the number of rows, other free axes are numbers of tokens."""
    found: Arrays = {}
    for name, (dtype, shape) in graph.inputs.items():
        if name.startswith("past_key_values"):
            sizes = [size if isinstance(size, int) else (rows if axis == 0 else 0) for axis, size in enumerate(shape)]
            found[name] = np.zeros(sizes, dtype)
    return found


class DecoderOpinion:
    """Runs one decoder as its manifest declares, and compares it with the original row by row."""

    def __init__(
        self, graph: Graph, original: Original, call_spec: dict[str, Any], verdict: Verdict, seed: int
    ) -> None:
        self._graph = graph
        self._original = original
        self._call_spec = call_spec
        self._verdict = verdict
        self._inputs = Inputs(graph, original, seed)

    def judge(self) -> None:
        """Compare ragged rows, then one row up to and beyond every length that the configuration declares."""
        room = self._graph.largest("input_ids", "attention_mask", "position_ids") - STEPS - CHUNK
        declared = int(self._original.setting("max_position_embeddings", "n_positions", "max_seq_len", default=128))
        self._attempt("rows", [min(23, room), min(41, room)])
        self._attempt("equal rows", [min(11, room)] * 3)
        for length in (
            min(declared - STEPS - CHUNK, room),
            min(declared // 2 + 5, room),
            min(declared + _BEYOND, room),
        ):
            self._attempt(f"one row of {length}", [length])

    def _attempt(self, what: str, lengths: Sequence[int]) -> None:
        rows = [self._inputs.tokens((length + STEPS + CHUNK,)) for length in lengths]
        try:
            expected = [self._original.logits(input_ids=row[None])[0] for row in rows]
        except RefusedRun as exc:
            self._verdict.notes.append(f"{what}: {exc}")
            return
        try:
            self._run(what, rows, lengths, expected)
        except RefusedRun as exc:
            self._verdict.raised.append(f"{what}: {exc}")

    def _run(
        self, what: str, rows: Sequence[NDArray[Any]], lengths: Sequence[int], expected: Sequence[NDArray[Any]]
    ) -> None:
        left = self._call_spec.get("padding_side") == "left"
        tokens, mask = _padded([row[:length] for row, length in zip(rows, lengths, strict=True)], left=left)
        cache = Cache(self._graph, empty_past(self._graph, len(rows)), np.zeros((len(rows), 0), np.int64))
        answer = cache.feed(tokens, mask)
        for row, length in enumerate(lengths):
            at = slice(tokens.shape[1] - length, None) if left else slice(0, length)
            self._verdict.compare(f"{what}: prefill of row {row}", _part(answer, row, at), expected[row][:length])
        if left or len(set(lengths)) == 1:  # rows with padding on the right cannot continue as a batch
            self._continue(what, cache, rows, lengths, expected)

    def _continue(
        self,
        what: str,
        cache: Cache,
        rows: Sequence[NDArray[Any]],
        lengths: Sequence[int],
        expected: Sequence[NDArray[Any]],
    ) -> None:
        sizes = [1] * STEPS
        most = self._call_spec.get("chunk_rows")
        if self._call_spec.get("chunks_after_cache") and (most is None or len(rows) <= most):
            sizes.append(CHUNK)
        done = 0
        for size in sizes:
            starts = [length + done for length in lengths]
            tokens = np.stack([row[start : start + size] for row, start in zip(rows, starts, strict=True)])
            answer = cache.feed(tokens, np.ones(tokens.shape, np.int64))
            for row, start in enumerate(starts):
                label = f"{what}: {size} after {start} in row {row}"
                self._verdict.compare(label, answer[row], expected[row][start : start + size])
            done += size


def _part(answer: NDArray[Any], row: int, at: slice) -> NDArray[Any]:
    part: NDArray[Any] = answer[row][at]
    return part


def _padded(rows: Sequence[NDArray[Any]], *, left: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    longest = max(len(row) for row in rows)
    tokens, mask = np.zeros((len(rows), longest), np.int64), np.zeros((len(rows), longest), np.int64)
    for number, row in enumerate(rows):
        at = slice(longest - len(row), None) if left else slice(0, len(row))
        tokens[number, at], mask[number, at] = row, 1
    return tokens, mask
