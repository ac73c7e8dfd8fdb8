"""The number of connections and the delays of retries, with a clock that the test sets."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from email.utils import formatdate

import pytest

from gpux.download import slots as module
from gpux.download.hub_errors import retry_after
from gpux.download.retry import Retry, RetryPolicy
from gpux.download.slots import ConnectionSlots
from gpux.errors import CancelledError, HubServerError, NetworkError, RateLimitError
from gpux.system.cancel import CancelToken
from tests.waiting import FOREVER


class Pull:
    """A pull on a network whose speed is a function of the number of connections."""

    def __init__(self, cap: int = 8) -> None:
        self.now = 0.0
        self.slots = ConnectionSlots(cap, clock=lambda: self.now)

    def run(self, windows: int, speed: dict[int, float]) -> list[int]:
        """Every connection that is allowed is used; the numbers of them, window after window."""
        numbers = []
        for _ in range(windows):
            with ExitStack() as held:
                held.enter_context(self.slots.slot(CancelToken(), extra=False))
                number = self.slots.allowed
                for _ in range(number - 1):
                    held.enter_context(self.slots.slot(CancelToken(), extra=True))
                self.now += module.WINDOW
                self.slots.arrived(int(speed[number] * module.WINDOW))
            numbers.append(number)
        return numbers


def test_connections_are_added_while_throughput_grows() -> None:
    assert Pull().run(8, {n: 20e6 * n for n in range(9)})[-1] == 8


def test_a_step_without_a_gain_is_taken_back() -> None:
    numbers = Pull().run(60, dict.fromkeys(range(9), 50e6))

    assert set(numbers) == {1, 2}
    assert numbers.count(2) < 10


def test_growth_stops_at_the_bandwidth_of_the_network() -> None:
    numbers = Pull().run(12, {n: min(20e6 * n, 80e6) for n in range(9)})

    assert 4 in numbers and numbers[-1] == 4


def test_no_more_than_the_cap() -> None:
    slots, cancel = ConnectionSlots(3), CancelToken()
    with ExitStack() as held:
        for _ in range(3):
            assert held.enter_context(slots.slot(cancel, extra=False))
        cancel.cancel()
        with pytest.raises(CancelledError), slots.slot(cancel, extra=False):
            pytest.fail("a fourth connection")


def test_extra_connections_have_a_limit_of_their_own() -> None:
    slots, cancel = ConnectionSlots(8), CancelToken()
    with slots.slot(cancel, extra=False):
        with slots.slot(cancel, extra=False) as admitted:
            assert admitted
        cancel.cancel()
        with pytest.raises(CancelledError), slots.slot(cancel, extra=True):
            pytest.fail("a second connection for one file before the first window")


def test_waiting_ends_when_no_connection_is_needed() -> None:
    with ConnectionSlots(8).slot(CancelToken(), extra=True, needed=lambda: False) as admitted:
        assert not admitted


def test_no_connection_is_admitted_during_a_pause() -> None:
    pull, refused, entered = Pull(), threading.Event(), threading.Event()
    pull.slots.close_for(30)

    def enter() -> None:
        with pull.slots.slot(CancelToken(), extra=False, needed=lambda: refused.set() or True):  # type: ignore[func-returns-value]
            entered.set()

    thread = threading.Thread(target=enter)
    thread.start()
    assert refused.wait(FOREVER)
    assert not entered.is_set()
    pull.now = 31
    assert entered.wait(FOREVER)
    thread.join()


def test_delays_grow_until_the_deadline() -> None:
    error = NetworkError("cut")
    tries, waits = Retry(RetryPolicy(deadline=100, first=1, longest=8)), []
    began = time.monotonic()
    for _ in range(5):
        waits.append(tries.delay_after(error, 0.0, got=False))
    assert all(1.5 * 2**n <= wait <= 2.5 * 2**n for n, wait in enumerate(waits[:3])) and max(waits) <= 10
    assert tries.delay_after(error, 0.0, got=True) <= 1.25
    with pytest.raises(NetworkError):
        Retry(RetryPolicy(deadline=0.1, first=1)).delay_after(error, 0.0, got=False)
    Retry(RetryPolicy(deadline=2, first=1)).delay_after(error, began + 1000, got=False)  # another request brought bytes


@pytest.mark.parametrize(
    "error", [RateLimitError("429", retry_after=7), HubServerError("503", status=503, retry_after=7)]
)
def test_the_delay_that_the_server_requests_is_respected(error: RateLimitError | HubServerError) -> None:
    assert 7 <= Retry(RetryPolicy(first=0.01)).delay_after(error, 0.0, got=False) <= 8
    with pytest.raises(type(error)):
        Retry(RetryPolicy(deadline=5)).delay_after(error, 0.0, got=False)


def test_a_permanent_refusal_is_not_retried() -> None:
    with pytest.raises(HubServerError):
        Retry(RetryPolicy()).delay_after(HubServerError("bad request", status=400), 0.0, got=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "12"}, 12),
        ({"Retry-After": formatdate(time.time() - 60, usegmt=True)}, 0),
        ({"Retry-After": "soon"}, None),
        ({"RateLimit": '"api";r=0;t=7', "Retry-After": "12"}, 7),
        ({"RateLimit": '"api";r=400;t=290', "Retry-After": "12"}, 12),
        ({"RateLimit": '"api";r=400;t=290'}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: int | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_a_date() -> None:
    found = retry_after({"Retry-After": formatdate(time.time() + 60, usegmt=True)})
    assert found is not None and 0 < found <= 61
