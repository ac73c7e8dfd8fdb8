from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from gpux.errors import CancelledError
from gpux.system.cancel import CancelToken
from tests.waiting import FOREVER


def test_check_raises_once_it_is_set() -> None:
    token = CancelToken()
    token.check()
    token.cancel()
    assert token.cancelled
    with pytest.raises(CancelledError) as caught:
        token.check()
    assert caught.value.exit_code == 130
    assert caught.value.hint


def test_cancelling_twice_is_cancelling() -> None:
    token = CancelToken()
    token.cancel()
    token.cancel()
    assert token.cancelled


def test_a_child_is_set_with_its_parent() -> None:
    parent = CancelToken()
    child = parent.child().child()
    parent.cancel()
    assert child.cancelled
    assert child.wait(FOREVER)


def test_a_parent_is_not_set_with_its_child() -> None:
    parent = CancelToken()
    child, other = parent.child(), parent.child()
    child.cancel()
    assert (child.cancelled, parent.cancelled, other.cancelled) == (True, False, False)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.05])
def test_wait_ends_when_its_time_is_over(seconds: float) -> None:
    started = time.monotonic()
    assert not CancelToken().wait(seconds)
    assert time.monotonic() - started >= seconds


def test_waiting_on_a_set_token_returns_at_once() -> None:
    token = CancelToken()
    token.cancel()
    assert token.wait(FOREVER)


@pytest.mark.parametrize("of", ["itself", "parent"])
def test_another_thread_ends_the_wait(of: str) -> None:
    parent = CancelToken()
    token = parent.child()
    timer = threading.Timer(0.05, (token if of == "itself" else parent).cancel)
    timer.start()
    assert token.wait(FOREVER)
    timer.join()


def test_many_threads_see_it() -> None:
    token = CancelToken()
    seen: list[bool] = []
    threads = [threading.Thread(target=lambda: seen.append(token.wait(FOREVER))) for _ in range(16)]
    for thread in threads:
        thread.start()
    token.cancel()
    for thread in threads:
        thread.join()
    assert seen == [True] * 16


SIGNALS = """
import signal
from gpux.system.cancel import CancelToken

token = CancelToken()
signal.signal(signal.SIGALRM, lambda number, frame: token.cancel())
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for _ in range(5000):
    token = CancelToken()
    token.wait(1e-5)
signal.setitimer(signal.ITIMER_REAL, 0)
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX timers")
def test_a_signal_handler_may_set_it_at_any_instant() -> None:
    result = subprocess.run([sys.executable, "-c", SIGNALS], capture_output=True, text=True)
    assert result.stdout == "done\n", result.stderr[-500:]
