"""Which failed requests are sent again, and after how long.

A module of its own because transfers of whole files and ranged reads share the policy.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from gpux.errors import HubServerError, NetworkError, RateLimitError

RETRYABLE = (NetworkError, HubServerError, RateLimitError)
_TRANSIENT = frozenset({408, 425, 429})  #: 4xx statuses that may not occur again


@dataclass(frozen=True)
class RetryPolicy:
    """How long a transfer continues without progress."""

    deadline: float = 120.0  #: seconds without a new byte of the file, after which the error is raised
    first: float = 0.25  #: seconds before the first retry; each retry without progress doubles them …
    longest: float = 20.0  #: … up to this limit, with a jitter of 25 %


DEFAULT_POLICY = RetryPolicy()


class Retry:
    """The attempts of one request; the deadline runs from the first attempt or from the last byte that arrived."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._since = time.monotonic()
        self._fruitless = 0

    def delay_after(self, error: HubServerError | NetworkError | RateLimitError, last_byte: float, got: bool) -> float:
        """Seconds to wait before the next attempt: the longer of the backoff and the server's ``Retry-After``.

        Args:
            error: why the attempt failed.
            last_byte: when the last byte of the file arrived, by any request (:func:`time.monotonic`).
            got: whether this attempt brought any bytes.

        Raises:
            HubServerError, NetworkError, RateLimitError: ``error`` itself, if the deadline would pass or the error is
                permanent.
        """
        if _is_permanent(error):
            raise error
        self._since = max(self._since, last_byte)
        self._fruitless = 0 if got else self._fruitless + 1
        backoff = min(self._policy.first * 2.0 ** min(self._fruitless, 30), self._policy.longest)
        backoff *= random.uniform(0.75, 1.25)  # noqa: S311 - spreads retries
        requested = error.details.get("retry_after")
        seconds = backoff if requested is None else max(backoff, requested + random.uniform(0, 0.5))  # noqa: S311
        if time.monotonic() + seconds > self._since + self._policy.deadline:
            raise error
        return seconds


def _is_permanent(error: HubServerError | NetworkError | RateLimitError) -> bool:
    """True for a 4xx status that another attempt would not change."""
    status = error.details.get("status")
    return isinstance(status, int) and 400 <= status < 500 and status not in _TRANSIENT
