"""Which failed requests are sent again, and after how long: one policy for files, ranged reads and metadata."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from gpux.errors import HubServerError, ManagerError, NetworkError, RateLimitError

RETRYABLE = (NetworkError, HubServerError, RateLimitError)
#: 4xx statuses that may not occur again: Request Timeout, Too Early, Too Many Requests.
_TRANSIENT = frozenset({408, 425, 429})
#: 5xx statuses that occur again: Not Implemented, HTTP Version Not Supported, Network Authentication Required.
_LASTING = frozenset({501, 505, 511})


@dataclass(frozen=True)
class RetryPolicy:
    """How long a request is repeated without progress."""

    deadline: float = 120.0  #: seconds without a new byte of the file, after which the error is raised
    first: float = 0.25  #: seconds before the first retry; each retry without progress doubles them …
    longest: float = 20.0  #: … up to this limit, with a jitter of 25 %
    stated: float | None = None  #: deadline where the server states how long to wait; None: the same
    unconnected: float | None = None  #: deadline where no connection was opened; None: the same
    spread: float = 0.5  #: seconds by which a stated wait is prolonged at most, so that clients come back one by one
    announced: float = 1.0  #: seconds from which a wait is reported to the user


DEFAULT_POLICY = RetryPolicy()
#: For metadata, for which a user waits. ``deadline`` is in units of the timeout of one request, so
#: that a silent server gets two attempts; a machine without a network learns it within two seconds.
METADATA_POLICY = RetryPolicy(deadline=2.0, longest=8.0, stated=120.0, unconnected=2.0)
#: For ranged reads: a description without what the file says is better than a long wait.
READ_POLICY = RetryPolicy(deadline=5.0, first=0.2, longest=2.0, stated=120.0, unconnected=2.0)


class Retry:
    """The attempts of one request; the deadline runs from the first attempt or from the last byte that arrived."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
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
        backoff = min(self.policy.first * 2.0 ** min(self._fruitless, 30), self.policy.longest)
        backoff *= random.uniform(0.75, 1.25)  # noqa: S311 - spreads retries
        requested = error.details.get("retry_after")
        seconds = backoff if requested is None else max(backoff, requested + random.uniform(0, self.policy.spread))  # noqa: S311
        if time.monotonic() + seconds > self._since + self._deadline(error):
            raise error
        return seconds

    def _deadline(self, error: ManagerError) -> float:
        policy = self.policy
        if error.details.get("retry_after") is not None and policy.stated is not None:
            return policy.stated
        if error.details.get("connected") is False and policy.unconnected is not None:
            return min(policy.unconnected, policy.deadline)
        return policy.deadline


def describe_wait(error: ManagerError, seconds: float) -> str:
    """The warning before a wait: ``the Hub answered 429; waiting 12 s``."""
    status = 429 if isinstance(error, RateLimitError) else error.details.get("status")
    what = f"the Hub answered {status}" if status else error.message
    return f"{what}; waiting {seconds:.0f} s"


def _is_permanent(error: ManagerError) -> bool:
    """True for a status that another attempt would not change."""
    status = error.details.get("status")
    if not isinstance(status, int):
        return False
    return (status < 500 and status not in _TRANSIENT) or status in _LASTING
