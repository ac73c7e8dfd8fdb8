"""Which texts run together: sorted by length, so that little is padded, and few enough tokens to bound memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpux.pipelines.text.tokenization import Tokens

T = TypeVar("T")
R = TypeVar("R")

#: Tokens of one run per thread of the CPU: its activations stay in the caches. On all-MiniLM-L6-v2, 128 to 512 are
#: alike, 32 and 2048 cost a fifth.
CPU_TOKENS_PER_THREAD = 256
#: Tokens of one run of a session with one thread, of which several go on at once.
LANE_TOKENS = 384
#: Tokens of one run elsewhere: enough to fill a large accelerator, small enough for its memory.
DEVICE_TOKENS = 16_384
#: Bytes of one run's largest output at most: a vocabulary of 250,000 makes a megabyte of every token.
OUTPUT_BYTES = 64_000_000


def plan(lengths: Sequence[int], budget: int, largest: int | None = None) -> list[list[int]]:
    """Indices of the texts that run together, longest first.

    Args:
        lengths: tokens of each text.
        budget: tokens of one batch, padding included, at most; a longer text runs alone.
        largest: texts of one batch at most.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        width = lengths[batches[-1][0]] if batches else 0
        full = not batches or (len(batches[-1]) + 1) * width > budget or len(batches[-1]) == largest
        if full:
            batches.append([])
        batches[-1].append(index)
    return batches


def arrays(
    tokens: Sequence[Tokens], pad_id: int, pad_type_id: int, side: Literal["right", "left"]
) -> dict[str, NDArray[Any]]:
    """``input_ids``, ``attention_mask`` and ``token_type_ids`` of a batch: int64 [batch, longest]."""
    shape = (len(tokens), max(len(text) for text in tokens))
    ids = np.full(shape, pad_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    types = np.full(shape, pad_type_id, dtype=np.int64)
    for row, text in enumerate(tokens):
        place = span(len(text), shape[1], side)
        ids[row, place] = text.ids
        mask[row, place] = 1
        types[row, place] = text.type_ids
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def span(length: int, width: int, side: Literal["right", "left"]) -> slice:
    """Where a text lies in a padded row of ``width``."""
    return slice(0, length) if side == "right" else slice(width - length, width)


def overlapped(run: Callable[[T], R], items: Sequence[T], runs: int) -> Iterator[R]:
    """``run`` of every item, in order, with ``runs`` of them going on at once and no more results waiting.

    A single item runs in the caller's thread. When one fails, or the caller stops, those that have not begun never do.
    """
    runs = min(runs, len(items))
    if runs <= 1:
        yield from map(run, items)
        return
    with ThreadPoolExecutor(runs, thread_name_prefix="gpux") as threads:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                if len(waiting) > runs:
                    yield waiting.popleft().result()
                waiting.append(threads.submit(run, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
