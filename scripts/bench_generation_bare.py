"""Bare decoding loops over a decoder's graph with onnxruntime alone: the lower bound of the time of a token.

Rows of equal length, greedy, no checks. In the bound loop past and present share a buffer, which the graph supports by
GroupQueryAttention; both models of the benchmark use that operator.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TOKENS = ("input_ids", "attention_mask", "position_ids")


class Graph:
    """The inputs, outputs and cache shapes of a graph, for both loops.

    Args:
        session: an ``onnxruntime.InferenceSession``.
    """

    def __init__(self, session: Any) -> None:
        self.session = session
        self.inputs = {arg.name: arg for arg in session.get_inputs()}
        self.outputs = [arg.name for arg in session.get_outputs()]
        self.past = [name for name in self.inputs if name not in _TOKENS]
        self.vocabulary = int(session.get_outputs()[0].shape[2])

    def cache_shape(self, name: str, rows: int, tokens: int) -> tuple[int, ...]:
        """``[rows, heads, tokens, size]``."""
        _, heads, _, size = self.inputs[name].shape
        return rows, heads, tokens, size


def copying(session: Any, prompts: list[list[int]], new: int) -> dict[str, Any]:
    """A loop with ``session.run``: the cache is copied out and in as arrays at every step."""
    began, graph, stamps = time.perf_counter(), Graph(session), []
    ids, rows = np.array(prompts), len(prompts)
    cache = {name: np.zeros(graph.cache_shape(name, rows, 0), np.float32) for name in graph.past}
    tokens = np.empty((rows, new), np.int64)
    width = 0
    for step in range(new):
        feed = {"input_ids": ids, "attention_mask": np.ones((rows, width + ids.shape[1]), np.int64), **cache}
        if "position_ids" in graph.inputs:
            feed["position_ids"] = np.tile(np.arange(width, width + ids.shape[1]), (rows, 1))
        found = dict(zip(graph.outputs, session.run(None, feed), strict=True))
        cache = {name: found[name.replace("past_key_values", "present")] for name in graph.past}
        width += ids.shape[1]
        ids = found["logits"][:, -1].argmax(-1)[:, None]
        tokens[:, step] = ids[:, 0]
        stamps.append(time.perf_counter() - began)
    return {"stamps": stamps, "tokens": tokens.tolist()}


class BoundLoop:
    """A loop with ``run_with_iobinding``: each cache tensor has one buffer that is updated in place.

    Args:
        session: an ``onnxruntime.InferenceSession``.
        prompts: rows of equal length.
        room: tokens that the cache holds beyond the prompts.
    """

    def __init__(self, session: Any, prompts: list[list[int]], room: int) -> None:
        self._graph = Graph(session)
        self._binding = session.io_binding()
        self._prompts = np.array(prompts)
        rows, width = self._prompts.shape
        self._mask = np.ones(rows * (width + room), np.int64)
        self._cache = [
            np.zeros(self._graph.cache_shape(name, rows, width + room), np.float32) for name in self._graph.past
        ]
        for name, array in zip(self._graph.past, self._cache, strict=True):
            self._feed(name, array)
            self._fetch(name.replace("past_key_values", "present"), array)

    def write(self, new: int, *, again: bool = False) -> dict[str, Any]:
        """Greedy tokens; with ``again`` only the last token of each prompt is run, since the cache holds the others."""
        began, stamps = time.perf_counter(), []
        rows, width = self._prompts.shape
        scores = self._call(self._prompts[:, -1:] if again else self._prompts, width)
        tokens = np.empty((rows, new), np.int64)
        tokens[:, 0] = scores[:, -1].argmax(-1)
        stamps.append(time.perf_counter() - began)
        ids, positions, out = tokens[:, :1].copy(), np.empty((rows, 1), np.int64), np.empty_like(scores[:, :1])
        self._bind(ids, positions, out)
        for step in range(1, new):
            ids[:, 0], positions[:] = tokens[:, step - 1], width + step - 1
            self._run(width + step)
            tokens[:, step] = out[:, 0].argmax(-1)
            stamps.append(time.perf_counter() - began)
        return {"stamps": stamps, "tokens": tokens.tolist()}

    def _call(self, ids: NDArray[np.int64], width: int) -> NDArray[np.float32]:
        out = np.empty((*ids.shape, self._graph.vocabulary), np.float32)
        self._bind(np.ascontiguousarray(ids), np.tile(np.arange(width - ids.shape[1], width), (len(ids), 1)), out)
        self._run(width)
        return out

    def _bind(self, ids: NDArray[np.int64], positions: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        self._bound = ids, positions, out  # kept alive as long as they are bound
        self._feed("input_ids", ids)
        if "position_ids" in self._graph.inputs:
            self._feed("position_ids", positions)
        self._fetch("logits", out)

    def _run(self, width: int) -> None:
        shape = (len(self._prompts), width)
        self._binding.bind_input("attention_mask", "cpu", 0, np.int64, shape, self._mask.ctypes.data)
        self._graph.session.run_with_iobinding(self._binding)

    def _feed(self, name: str, array: NDArray[Any]) -> None:
        self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def _fetch(self, name: str, array: NDArray[Any]) -> None:
        self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
