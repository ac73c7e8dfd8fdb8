"""The places that ``torch.topk(sorted=False)`` gives on the CPU, in its order.

Segments of overlapping masks depend on this order. Where few values are wanted (``64 k <= n``), torch sorts them
(``std::partial_sort``); otherwise it moves them to the front (``std::nth_element``), in the order in which libstdc++'s
introselect leaves them (``bits/stl_algo.h``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SORTED = 64


def unsorted_topk(values: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Places of the highest values [count] among values [n]."""
    if count * _SORTED <= len(values):
        return np.argsort(-values, kind="stable")[:count]
    return _selected(values, min(count, len(values)))


def _selected(values: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Places whose first ``count`` have the highest values, in the order of ``std::nth_element``."""
    if count < 1:
        return np.empty(0, np.intp)
    queue = [(float(value), place) for place, value in enumerate(values)]
    first, last, nth = 0, len(queue), count - 1
    rounds = 2 * (len(queue).bit_length() - 1)
    while last - first > 3:
        if rounds == 0:
            queue[first:last] = sorted(queue[first:last], key=lambda item: -item[0])
            return np.array([place for _, place in queue[:count]], np.intp)
        rounds -= 1
        cut = _partition(queue, first, last)
        first, last = (cut, last) if cut <= nth else (first, cut)
    queue[first:last] = sorted(queue[first:last], key=lambda item: -item[0])  # stable, as an insertion sort is
    return np.array([place for _, place in queue[:count]], np.intp)


def _partition(queue: list[tuple[float, int]], first: int, last: int) -> int:
    """Move values above a pivot before those below it; where the second part begins."""
    _median_to_first(queue, first, first + 1, first + (last - first) // 2, last - 1)
    pivot, low, high = queue[first][0], first + 1, last
    while True:
        while queue[low][0] > pivot:
            low += 1
        high -= 1
        while pivot > queue[high][0]:
            high -= 1
        if low >= high:
            return low
        queue[low], queue[high] = queue[high], queue[low]
        low += 1


def _median_to_first(queue: list[tuple[float, int]], first: int, *three: int) -> None:
    """Exchange the first item with the middle one of three, chosen as ``std::__move_median_to_first`` does."""
    a, b, c = three
    x, y, z = (queue[place][0] for place in three)
    chosen = (b if y > z else c if x > z else a) if x > y else (a if x > z else c if y > z else b)
    queue[first], queue[chosen] = queue[chosen], queue[first]
