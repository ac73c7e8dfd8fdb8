"""When a request that failed is sent again, and when it is not."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from gpux.errors import HubServerError, NetworkError, RateLimitError

RETRIED = (NetworkError, HubServerError, RateLimitError)
_PASSING = frozenset({408, 425, 429})  #: refusals that may be none the next time


@dataclass(frozen=True)
class Patience:
    """How long a transfer goes on without getting anywhere."""

    deadline: float = 120.0  #: seconds without a new byte of the file, after which its error is raised
    first: float = 0.25  #: seconds before the first further try; each fruitless one doubles them …
    longest: float = 20.0  #: … up to this, about +-25 % at random, so that many clients do not come back at once


PATIENCE = Patience()  #: of a transfer that is not given another


class Retry:
    """The tries of one request; the deadline runs from its first try, or from the last byte that came since."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._since = time.monotonic()
        self._fruitless = 0

    def wait_after(self, error: HubServerError | NetworkError | RateLimitError, last_byte: float, got: bool) -> float:
        """Seconds to wait before the next try: what the server asked for, and no less than the backoff.

        ``last_byte`` is when the last byte of the file came, by whichever request; ``got`` tells whether this one
        brought any.

        Raises:
            HubServerError, NetworkError, RateLimitError: ``error``, when the deadline would pass or no try can help.
        """
        if _final(error):
            raise error
        self._since = max(self._since, last_byte)
        self._fruitless = 0 if got else self._fruitless + 1
        backoff = min(self._patience.first * 2.0 ** min(self._fruitless, 30), self._patience.longest)
        backoff *= random.uniform(0.75, 1.25)  # noqa: S311 - spreads retries
        asked = error.details.get("retry_after")
        seconds = backoff if asked is None else max(backoff, asked + random.uniform(0, 0.5))  # noqa: S311
        if time.monotonic() + seconds > self._since + self._patience.deadline:
            raise error
        return seconds


def _final(error: HubServerError | NetworkError | RateLimitError) -> bool:
    """True for a refusal that stays one: 4xx."""
    status = error.details.get("status")
    return isinstance(status, int) and 400 <= status < 500 and status not in _PASSING
