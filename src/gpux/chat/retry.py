"""Repeated attempts with growing delays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gpux.errors import GpuxError, OverloadedError, ProviderUnavailableError, UnavailableError, WorkerDiedError

T = TypeVar("T")
#: Seconds between two attempts at most.
LONGEST = 30.0
#: Errors that another attempt may not meet again.
PASSING: tuple[type[GpuxError], ...] = (OverloadedError, ProviderUnavailableError, UnavailableError, WorkerDiedError)


def may_pass(error: GpuxError) -> bool:
    """Whether another attempt can succeed without a change of the request."""
    return isinstance(error, PASSING) and error.details.get("should_retry") is not False and not _stops(error)


async def retried(
    work: Callable[[], Awaitable[T]],
    *,
    attempts: int,
    delay: float,
    may_retry: Callable[[GpuxError], bool] = may_pass,
) -> T:
    """The result of the first attempt that succeeds.

    Args:
        work: one attempt.
        attempts: after the first one, at most.
        delay: seconds before the first retry, doubled before each further one up to :data:`LONGEST`.
        may_retry: whether an error may pass.

    Raises:
        GpuxError: the error of the last attempt.
    """
    for attempt in range(attempts):
        try:
            return await work()
        except GpuxError as error:
            if not may_retry(error):
                raise
        await asyncio.sleep(min(LONGEST, delay * 2**attempt))
    return await work()


def _stops(error: GpuxError) -> bool:
    return error.details.get("stopping") is True
