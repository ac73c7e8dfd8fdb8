from __future__ import annotations

import threading
import time

import pytest

from gpux.errors import CancelledError
from gpux.store import Store
from gpux.system.cancel import CancelToken
from tests.store.variants import COMMIT, ID

KEY = ("hf", ID, COMMIT, "fill-mask", "fp32")


def test_a_waiting_thread_gets_the_released_lock(store: Store) -> None:
    order: list[str] = []
    waiting = threading.Event()

    def on_wait() -> None:
        order.append("waits")
        waiting.set()

    def other() -> None:
        with store.lock(*KEY, on_wait=on_wait):
            order.append("other")

    thread = threading.Thread(target=other)
    with store.lock(*KEY):
        thread.start()
        assert waiting.wait(10)
        time.sleep(0.25)  # several polls: on_wait is called once
        order.append("first")
    thread.join(10)
    assert order == ["waits", "first", "other"]


def test_waiting_ends_when_cancelled(store: Store) -> None:
    token = CancelToken()
    with store.lock(*KEY):
        began = time.monotonic()
        threading.Timer(0.15, token.cancel).start()
        with pytest.raises(CancelledError), store.lock(*KEY, cancel=token):
            pass
        assert time.monotonic() - began < 5
    with store.lock(*KEY):
        pass


def test_other_variants_do_not_wait(store: Store) -> None:
    with store.lock(*KEY), store.lock(*KEY[:4], "int8"), store.lock(*KEY[:3], "feature-extraction", "fp32"):
        pass


def test_an_error_in_the_block_releases_the_lock(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lock(*KEY):
        raise ZeroDivisionError
    token = CancelToken()
    token.cancel()
    with store.lock(*KEY, cancel=token):  # free: no need to wait, so nothing to cancel
        pass
