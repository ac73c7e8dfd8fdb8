"""Several pulls at once: a few at a time, one report, and no failure stops the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from gpux.errors import GpuxError, UsageError
from gpux.model.reference import ModelRef, Reference
from gpux.model.values import Value
from gpux.model.variant import StoredModel
from gpux.pull.api import pull_model
from gpux.system.cancel import CancelToken
from gpux.system.progress import Event, silent

PARALLEL = 3
#: Gets each event with the reference that it belongs to, from several threads.
LabelledCallback = Callable[[str, Event], None]


@dataclass(frozen=True)
class PullOutcome(Value):
    """How one of several pulls ended: with a model, or with an error."""

    ref: str
    model: StoredModel | None
    error: GpuxError | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; exactly one of ``model`` and ``error`` is not null."""
        return {
            "ref": self.ref,
            "seconds": self.seconds,
            "model": self.model.to_dict() if self.model else None,
            "transfer": self.model.report.to_dict() if self.model and self.model.report else None,
            "error": self.error.to_dict() if self.error else None,
        }


def pull_models(
    refs: Iterable[Reference] | Reference,
    *,
    parallel: int = PARALLEL,
    progress: LabelledCallback | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> list[PullOutcome]:
    """Pull each reference as :func:`gpux.pull_model` does, up to ``parallel`` at a time.

    Downloads go on side by side; conversions take turns, since each may need several times its model in memory.

    Returns:
        One outcome for each reference, in their order; repeated ones are pulled once.

    Raises:
        UsageError: ``parallel`` is below 1.
        CancelledError: ``cancel`` was set; what had arrived is kept.
    """
    if isinstance(refs, (str, os.PathLike, ModelRef)):
        refs = [refs]  # one reference, not one for each of its letters
    if parallel < 1:
        raise UsageError(f"parallel={parallel}: at least one pull must go on")
    token = cancel or CancelToken()
    stop = token.child()

    def pull(ref: Reference) -> PullOutcome:
        label, started = str(ref), time.monotonic()
        report: Callable[[Event], None] = (lambda event: progress(label, event)) if progress else silent
        model, error = None, None
        try:
            model = pull_model(ref, progress=report, cancel=stop, **options)
        except GpuxError as exc:
            error = exc
        return PullOutcome(label, model, error, time.monotonic() - started)

    pool = ThreadPoolExecutor(parallel, thread_name_prefix="gpux-pull")
    try:
        jobs = [pool.submit(pull, ref) for ref in dict.fromkeys(refs)]
        outcomes = [job.result() for job in jobs]
    finally:
        stop.cancel()  # Ctrl-C ends the others as well
        pool.shutdown(cancel_futures=True)
    token.check()
    return outcomes
