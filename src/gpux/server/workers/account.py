"""One request in a worker: whether it was cancelled, its tokens, and where its time went."""

from __future__ import annotations

import threading
import time
from typing import Any

from gpux.server.workers.messages import Request, Timing
from gpux.system.cancel import CancelToken


class Account:
    """What is counted for one request while it is answered.

    Args:
        request: the message.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.id = request.id
        self.cancel = CancelToken()
        self.arrived = time.monotonic()
        self.waits = True  #: the model has not run for it
        self.tokens = 0  #: of the texts that the model read
        self.timing = Timing()
        self.job: Any = None  #: what it has in the queue of batches


#: The request that the current thread answers.
_local = threading.local()


def current() -> Account | None:
    """The request that this thread answers; None outside of one."""
    found: Account | None = getattr(_local, "account", None)
    return found


def set_current(account: Account | None) -> None:
    """Name the request that this thread answers."""
    _local.account = account
