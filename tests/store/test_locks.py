from __future__ import annotations

import threading

import pytest

from gpux.errors import CancelledError
from gpux.store import Store
from gpux.system.cancel import CancelToken
from tests.store.variants import COMMIT, ID
from tests.waiting import wait_until

KEY = ("hf", ID, COMMIT, "fill-mask", "fp32")


class CountingToken(CancelToken):
    """Counts the waits between two attempts."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def wait(self, seconds: float) -> bool:
        self.waits += 1
        return super().wait(seconds)


def test_a_waiting_thread_gets_the_released_lock(store: Store) -> None:
    order: list[str] = []
    token = CountingToken()

    def other() -> None:
        with store.lock(*KEY, cancel=token, on_wait=lambda: order.append("waits")):
            order.append("other")

    thread = threading.Thread(target=other)
    with store.lock(*KEY):
        thread.start()
        wait_until(lambda: token.waits >= 3)  # on_wait is called once
        order.append("first")
    thread.join()
    assert order == ["waits", "first", "other"]


def test_waiting_ends_when_cancelled(store: Store) -> None:
    token = CancelToken()
    with (
        store.lock(*KEY),
        pytest.raises(CancelledError),
        store.lock(*KEY, cancel=token, on_wait=token.cancel),
    ):
        pytest.fail("the lock was held twice")
    assert is_free(store, *KEY)


def test_other_variants_do_not_wait(store: Store) -> None:
    with store.lock(*KEY):
        assert not is_free(store, *KEY)
        assert is_free(store, *KEY[:4], "int8")
        assert is_free(store, *KEY[:3], "feature-extraction", "fp32")


def is_free(store: Store, *key: str) -> bool:
    """Whether the lock can be acquired without waiting."""
    token = CancelToken()
    token.cancel()
    try:
        with store.lock(*key, cancel=token):
            return True
    except CancelledError:
        return False


def test_an_error_in_the_block_releases_the_lock(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lock(*KEY):
        raise ZeroDivisionError
    assert is_free(store, *KEY)
