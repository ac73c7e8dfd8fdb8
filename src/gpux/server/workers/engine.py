"""Runs requests on the model of this process.

Requests that generate text take turns. All others prepare their inputs in threads, and share batches
(:mod:`gpux.server.workers.batching`).
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpux.errors import CancelledError, GpuxError, InputError, RunError, UnsupportedError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import Pipeline
from gpux.pipelines.generation.text_generation import TextGenerationPipeline
from gpux.pipelines.text.encoding import EncodingPipeline
from gpux.pull.open import pipeline
from gpux.server.workers.account import Account, set_current
from gpux.server.workers.batching import Batcher
from gpux.server.workers.generating import generate_in_turn, generator_of
from gpux.server.workers.messages import (
    Answer,
    Embed,
    Failed,
    Generate,
    Load,
    Open,
    Rank,
    Ready,
    Request,
)
from gpux.server.workers.operations import reply_to
from gpux.server.workers.reports import Reports
from gpux.server.workers.tasks import Tasks
from gpux.store.manifest import MANIFEST, read_manifest

Send = Callable[[Any], None]

#: Requests that may wait in threads at once; those beyond are prepared when one of these has ended.
_THREADS = 256
#: Errors that an input of an unexpected form causes before the model runs.
_OF_THE_INPUT = (TypeError, ValueError, KeyError, IndexError, AttributeError)


def open_engine(opening: Open, send: Send) -> Engine:
    """Open the model and send :class:`Ready`.

    Raises:
        GpuxError: the model cannot be opened.
    """
    folder = Path(opening.path)
    model = StoredModel(folder, read_manifest(folder / MANIFEST))
    pipe = pipeline(opening.task, model, device=opening.device, threads=opening.threads, spinning=False)
    engine = Engine(pipe, send, batch_wait=float(opening.settings.get("batch_wait") or 0.0))
    send(engine.ready)
    return engine


class Engine:
    """Every method returns at once; replies are sent.

    Args:
        pipe: the open model.
        send: sends a message to the server, from any thread.
        batch_wait: seconds that a batch waits for requests that are expected.
    """

    def __init__(self, pipe: Pipeline, send: Send, *, batch_wait: float = 0.003) -> None:
        self._pipe, self._send = pipe, send
        self._lock = threading.Lock()
        self._accounts: dict[int, Account] = {}
        threads = pipe.session.threads
        self._hands = threading.Semaphore(max(2, threads))
        self._reports = Reports(self._load, send)
        self._batcher: Batcher | None = None
        if pipe.shares_batches:
            self._batcher = Batcher(
                pipe, wait=batch_wait, cores=threads, changed=self._reports.batch, hands=self._hands
            )
        self._tasks = Tasks(pipe, self._batcher.run if self._batcher else None)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="request")
        self._turns = ThreadPoolExecutor(1, thread_name_prefix="turns")

    @property
    def ready(self) -> Ready:
        """What the server is informed of when the model is open."""
        pipe = self._pipe
        return Ready(
            device=pipe.device,
            batches=pipe.shares_batches,
            context_length=_context_length(pipe),
            chat=bool(_templates(pipe)),
            capabilities=_capabilities(pipe),
            outputs=_outputs(pipe),
        )

    def submit(self, request: Request) -> None:
        """Queue a request."""
        account = Account(request)
        with self._lock:
            self._accounts[request.id] = account
        self._reports.changed()
        if isinstance(request, Generate) or (isinstance(request, Answer) and not self._pipe.shares_batches):
            self._turns.submit(self._take_turn, account)
            return
        if self._batcher is not None and isinstance(request, (Answer, Embed, Rank)):
            self._batcher.expect(account)
        self._threads.submit(self._run, account)

    def cancel(self, id: int) -> None:
        """End a request, if it has not ended; one that generates sends what it has."""
        with self._lock:
            account = self._accounts.get(id)
        if account is None:
            return
        account.cancel.cancel()
        if account.waits or not isinstance(account.request, Generate):
            self._end(account, Failed(_cancelled().to_dict(), id))
        if self._batcher is not None:
            self._batcher.cancel(account)

    def use_cores(self, count: int) -> None:
        """Run as much at once as so many logical processors can."""
        if self._batcher is not None:
            self._batcher.cores = max(1, count)

    def close(self) -> None:
        """Cancel what waits, wait for what runs, and free the model."""
        with self._lock:
            accounts = list(self._accounts.values())
        for account in accounts:
            account.cancel.cancel()
            if account.waits:
                self._end(account, Failed(_cancelled().to_dict(), account.id))
        if self._batcher is not None:
            self._batcher.close()
        self._threads.shutdown(wait=True)
        self._turns.shutdown(wait=True)
        self._reports.close()
        self._tasks.close()

    # -- in the threads of requests

    def _run(self, account: Account) -> None:
        with self._hands:
            self._answer(account, lambda: reply_to(self._tasks, account))

    def _take_turn(self, account: Account) -> None:
        def reply() -> Any:
            account.waits = False
            self._reports.batch(1, 1)
            try:
                if isinstance(account.request, Generate):
                    return generate_in_turn(generator_of(self._pipe), account, self._send)
                started = time.monotonic()
                found = reply_to(self._tasks, account)
                account.timing.run = time.monotonic() - started
                return found
            finally:
                self._reports.batch(0, 0)

        self._answer(account, reply)

    def _answer(self, account: Account, reply: Callable[[], Any]) -> None:
        """Send the reply of a function, or its error."""
        if account.cancel.cancelled:
            self._end(account, Failed(_cancelled().to_dict(), account.id))
            return
        account.timing.queue = time.monotonic() - account.arrived
        set_current(account)
        try:
            found = reply()
        except BaseException as error:  # noqa: BLE001 - a request must not end the worker
            found = Failed(failed(error, ran=account.job is not None), account.id)
        finally:
            set_current(None)
        try:
            self._end(account, found)
        except Exception as error:  # noqa: BLE001 - an answer that is too large, or has a type without a form in JSON
            self._send(Failed(failed(error), account.id))

    def _end(self, account: Account, reply: Any) -> None:
        """Send the last reply, unless one was sent."""
        with self._lock:
            last = self._accounts.pop(account.id, None)
        if last is None:
            return
        if self._batcher is not None:
            self._batcher.forget(account)
        self._send(reply)
        self._reports.changed()

    def _load(self) -> Load:
        with self._lock:
            waiting = sum(account.waits for account in self._accounts.values())
            return Load(running=len(self._accounts) - waiting, waiting=waiting)


def failed(error: BaseException, *, ran: bool = True) -> dict[str, Any]:
    """An error of a request as a message carries it; the text of an unexpected one goes to the log alone.

    Args:
        error: any.
        ran: whether the model has run for the request; before, an unexpected error is one of its inputs.
    """
    if isinstance(error, GpuxError):
        return error.to_dict()
    traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, MemoryError):
        return RunError("there is too little memory for this request", hint="Send fewer or smaller inputs.").to_dict()
    if not ran and isinstance(error, _OF_THE_INPUT):
        return InputError(
            "an input or an option has a form that this task does not read", hint="See the inputs of the task."
        ).to_dict()
    return RunError("the model could not answer", hint="The server's log has the reason.").to_dict()


def _cancelled() -> CancelledError:
    return CancelledError("the request was cancelled", hint="Send it again.")


def _context_length(pipe: Pipeline) -> int | None:
    decoder = getattr(pipe, "_decoder", None)
    found = getattr(decoder, "limit", None)
    if found is None:
        found = getattr(getattr(pipe, "tokenizer", None), "hard_limit", None)
    return found if isinstance(found, int) else None


def _capabilities(pipe: Pipeline) -> list[str]:
    found = [{"text": "texts", "image": "images", "audio": "sounds", "video": "videos"}[pipe.takes]]
    if not pipe.shares_batches:
        found.append("generate")
    if isinstance(pipe, EncodingPipeline):
        found += ["embed", "rank"]
    if pipe.model_task == "text-classification" and len(getattr(pipe, "labels", ())) == 1:
        found.append("rank")
    if hasattr(pipe, "tokenizer"):
        found.append("tokenize")
    if any("tools" in source for source in _templates(pipe)):
        found.append("tools")
    return found


def _templates(pipe: Pipeline) -> list[str]:
    """The sources of the chat templates."""
    return list(pipe.chat_template.templates.values()) if isinstance(pipe, TextGenerationPipeline) else []


def _outputs(pipe: Pipeline) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if labels := getattr(pipe, "labels", None):
        found["labels"] = list(labels)
    if isinstance(pipe, EncodingPipeline):
        try:
            found["dimensions"] = pipe.dimension
            found["max_length"] = pipe.max_seq_length
            found["prompts"] = sorted(pipe.sentence.prompts or {})
            found["similarity"] = pipe.similarity_fn_name
        except UnsupportedError:  # the vectors of its tokens are available
            found.pop("dimensions", None)
    elif (limit := getattr(getattr(pipe, "tokenizer", None), "limit", None)) is not None:
        found["max_length"] = limit
    return found
