"""Workers that run at the same time get disjoint cores."""

from __future__ import annotations

import asyncio

import pytest

from gpux.server.cores import Cores, shares
from tests.waiting import until

PAIRS = [[0, 4], [1, 5], [2, 6], [3, 7]]  #: four cores of two threads each


class Busy:
    """A user of cores with a number of requests."""

    def __init__(self, requests: int) -> None:
        self.requests = requests
        self.cores: list[int] | None = None
        self.messages = 0

    def use_cores(self, cores: list[int]) -> None:
        self.cores = cores
        self.messages += 1


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (1, [[0, 1, 2, 3, 4, 5, 6, 7]]),
        (2, [[0, 1, 4, 5], [2, 3, 6, 7]]),
        (3, [[0, 4], [1, 2, 5, 6], [3, 7]]),
        (4, [[0, 4], [1, 5], [2, 6], [3, 7]]),
        (5, [[0, 4], [1, 5], [2, 6], [3, 7], [0, 4]]),
    ],
)
def test_cores_are_shared_whole_and_without_overlap_while_there_are_enough(
    count: int, expected: list[list[int]]
) -> None:
    assert shares(PAIRS, 4, count) == expected


def test_busy_workers_use_no_more_cores_than_the_control_group_allows() -> None:
    assert shares(PAIRS, 2, 2) == [[0, 4], [1, 5]]
    assert shares(PAIRS, 2, 3) == [[0, 4], [1, 5], [0, 4]]


def test_only_changes_of_busy_workers_are_sent() -> None:
    first, second, idle = Busy(1), Busy(0), Busy(0)

    async def scenario() -> None:
        cores = Cores(lambda: [first, second, idle], groups=PAIRS, threads=4)
        cores.apply()
        assert first.cores is None  # it has all from its start
        second.requests = 2
        cores.changed()
        cores.changed()
        await until(lambda: second.cores is not None)
        assert (first.cores, second.cores) == ([0, 1, 4, 5], [2, 3, 6, 7])
        cores.apply()
        assert (first.messages, second.messages, idle.messages) == (1, 1, 0)
        first.requests = 0
        cores.apply()
        assert second.cores == [0, 1, 2, 3, 4, 5, 6, 7]
        cores.close()

    asyncio.run(scenario())
