"""Pulling several models concurrently: one outcome for each, and a failure does not stop the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from gpux.errors import GpuxError, UsageError
from gpux.managers.base import ModelManager
from gpux.model.reference import ModelRef, Reference
from gpux.model.values import Value
from gpux.model.variant import StoredModel
from gpux.pull.api import pull_model
from gpux.store import Store
from gpux.system.cancel import CancelToken
from gpux.system.progress import Event, silent
from gpux.system.settings import Settings

PARALLEL = 3
#: Called with a reference and each event of its pull, from several threads.
LabelledCallback = Callable[[str, Event], None]


@dataclass(frozen=True)
class PullOutcome(Value):
    """The result of one of several pulls: a model or an error."""

    ref: str
    model: StoredModel | None
    error: GpuxError | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The outcome as JSON-able values; exactly one of ``model`` and ``error`` is not null."""
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
    revision: str | None = None,
    task: str | None = None,
    precision: str | None = None,
    device: str = "auto",
    force: bool = False,
    convert: bool = False,
    converter: str | None = None,
    prove: bool = False,
    allow_inexact: bool = False,
    trust_remote_code: bool = False,
    discard_source: bool = False,
    ignore_disk_space: bool = False,
    ignore_memory: bool = False,
    parallel: int = PARALLEL,
    manager: ModelManager | None = None,
    settings: Settings | None = None,
    store: Store | None = None,
    progress: LabelledCallback | None = None,
    cancel: CancelToken | None = None,
) -> list[PullOutcome]:
    """Pull each reference as :func:`gpux.pull_model` does with these keywords, up to ``parallel`` at a time.

    Downloads run concurrently; conversions run one at a time, since each may need several times its model in memory.

    Args:
        refs: one reference or several; a repeated one is pulled once.
        parallel: number of concurrent pulls.
        progress: called with the reference and each event, from several threads.

    The other keywords are those of :func:`gpux.pull_model`, which describes them.

    Returns:
        One outcome for each reference, in their order; a failure does not stop the others.

    Raises:
        UsageError: ``parallel`` is below 1.
        CancelledError: ``cancel`` was set; the bytes received so far are kept.
    """
    if isinstance(refs, (str, os.PathLike, ModelRef)):
        refs = [refs]  # a string is iterable, too
    if parallel < 1:
        raise UsageError(f"parallel={parallel} must be at least 1")
    token = cancel or CancelToken()
    stop = token.child()

    def pull(ref: Reference) -> PullOutcome:
        label, started = str(ref), time.monotonic()
        report: Callable[[Event], None] = (lambda event: progress(label, event)) if progress else silent
        model, error = None, None
        try:
            model = pull_model(
                ref,
                revision=revision,
                task=task,
                precision=precision,
                device=device,
                force=force,
                convert=convert,
                converter=converter,
                prove=prove,
                allow_inexact=allow_inexact,
                trust_remote_code=trust_remote_code,
                discard_source=discard_source,
                ignore_disk_space=ignore_disk_space,
                ignore_memory=ignore_memory,
                manager=manager,
                settings=settings,
                store=store,
                progress=report,
                cancel=stop,
            )
        except GpuxError as exc:
            error = exc
        return PullOutcome(label, model, error, time.monotonic() - started)

    pool = ThreadPoolExecutor(parallel, thread_name_prefix="gpux-pull")
    try:
        jobs = [pool.submit(pull, ref) for ref in dict.fromkeys(refs)]
        outcomes = [job.result() for job in jobs]
    finally:
        stop.cancel()  # Ctrl-C ends the other pulls, too
        pool.shutdown(cancel_futures=True)
    token.check()
    return outcomes
