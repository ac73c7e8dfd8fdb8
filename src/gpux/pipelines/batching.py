"""Which inputs run together: sorted by size, so that little is padded, and within a budget that bounds memory.

Inputs that arrive one by one are answered in windows: so many are read, answered as a list, and handed out before the
next are read. Memory is bounded by the window, whatever the number of inputs.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from gpux.errors import CacheMemoryError, GpuxError, InputError, NumericError, SessionError

T = TypeVar("T")
R = TypeVar("R")

#: Bytes of one run's largest output at most: a vocabulary of 250,000 entries gives a megabyte for every token.
OUTPUT_BYTES = 64_000_000
#: Bytes of weights up to which a second copy is loaded, for a session whose runs have one thread each.
SECOND_COPY_BYTES = 256_000_000
#: Inputs of the first window at most: few, so that the first answer comes early.
_FIRST_WINDOW = 32
#: Seconds of a window up to which the next one has twice as many inputs, and from which it has half as many.
_QUICK, _SLOW = 2.0, 10.0
#: Characters or bytes of one window at most.
_WINDOW_LENGTH = 4_000_000
#: Invalid inputs that are taken out of a window one by one; a window with more is answered in halves.
_SINGLE_ERRORS = 4

#: Errors that one input may cause, so that the others can still be answered.
_OF_AN_INPUT = (InputError, NumericError, CacheMemoryError, SessionError)
#: An answer to each of several inputs.
Answering = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True)
class BatchBudget:
    """How much runs together, in units of :meth:`gpux.Pipeline.size`: tokens of a text, or whole inputs.

    Args:
        cpu_per_thread: units of one run for each thread that it uses on the CPU.
        one_thread: units of one run of a session with one thread per run.
        device: units of one run on any other device.
        one_thread_from: units per thread from which much input on the CPU runs as one batch per core, each on one
            thread; None: never.
    """

    cpu_per_thread: int = 1
    one_thread: int = 1
    device: int = 32
    one_thread_from: int | None = None


def plan(sizes: Sequence[int], budget: int, largest: int | None = None) -> list[list[int]]:
    """Batches of indices, largest inputs first.

    Args:
        sizes: units of each input.
        budget: units of one batch at most, padding included; a larger input runs alone.
        largest: inputs of one batch at most.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        width = sizes[batches[-1][0]] if batches else 0
        full = not batches or (len(batches[-1]) + 1) * width > budget or len(batches[-1]) == largest
        if full:
            batches.append([])
        batches[-1].append(index)
    return batches


def overlapped(run: Callable[[T], R], items: Sequence[T], runs: int) -> Iterator[R]:
    """``run`` of every item, in order, with up to ``runs`` at once and at most as many finished results waiting.

    A single item runs in the caller's thread. When a run fails, or the caller stops iterating, items that have not
    started are cancelled.
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


def arrives(inputs: Any) -> bool:
    """Whether inputs come one by one: a generator, or another iterable without a length that is not an open file."""
    return isinstance(inputs, Iterable) and not isinstance(inputs, Sized) and not hasattr(inputs, "read")


def windows(inputs: Iterable[T], largest: int) -> Iterator[tuple[int, list[T]]]:
    """Parts of the inputs, each with the place of its first one; the next input is read when a part was used.

    Parts grow while they are used quickly, up to the largest, in which inputs are sorted best.

    Args:
        inputs: read once.
        largest: inputs of one part at most.
    """
    smallest = max(1, min(_FIRST_WINDOW, largest // 8))
    start, size = 0, smallest
    part: list[T] = []
    length = 0
    for item in inputs:
        part.append(item)
        length += len(item) if isinstance(item, (str, bytes)) else 0
        if len(part) >= size or length >= _WINDOW_LENGTH:
            begun = time.monotonic()
            yield start, part
            start, took = start + len(part), time.monotonic() - begun
            size = min(2 * size, largest) if took < _QUICK else max(size // 2, smallest) if took > _SLOW else size
            part, length = [], 0
    if part:
        yield start, part


def kept(answer: Answering, inputs: Sequence[Any]) -> list[Any]:
    """The answer to each input, or the error that it caused; the other inputs are answered nevertheless.

    Raises:
        GpuxError: an error that no single input causes, such as an invalid option.
    """
    found: list[Any] = [None] * len(inputs)
    left = list(range(len(inputs)))
    for _ in range(_SINGLE_ERRORS):
        try:
            answers = answer([inputs[place] for place in left])
        except _OF_AN_INPUT as error:
            if len(left) == 1:
                found[left[0]] = error
                return found
            index = error.details.get("index")
            if not isinstance(index, int) or not 0 <= index < len(left):
                break
            found[left.pop(index)] = error
        else:
            for place, one in zip(left, answers, strict=True):
                found[place] = one
            return found
    for half in (left[: len(left) // 2], left[len(left) // 2 :]):
        for place, one in zip(half, kept(answer, [inputs[place] for place in half]) if half else (), strict=True):
            found[place] = one
    return found


def placed(error: GpuxError, index: int) -> GpuxError:
    """The error of an input of a window, with the input's place among all inputs in ``index`` and in its message."""
    local = error.details.get("index", 0)
    message = re.sub(
        r"\b\d+\b", lambda found: str(index) if found[0] == str(local) else found[0], error.message, count=1
    )
    return type(error)(message, hint=error.hint, **{**error.details, "index": index})
