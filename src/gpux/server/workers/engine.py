"""Runs requests on the model of this process.

Requests for text are decoded together where the graph allows it (:mod:`gpux.pipelines.generation.concurrent`). Others
prepare their inputs in threads, and share batches (:mod:`gpux.server.workers.batching`). What can do neither, such as
speech by a decoder, takes turns.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpux.errors import CancelledError, ChatTemplateError, GpuxError, InputError, RunError, UnsupportedError
from gpux.inspect.chat_styles import ThinkingSwitch, thinking_switch
from gpux.inspect.chat_template import chosen
from gpux.model.variant import StoredModel
from gpux.pipelines.base import Pipeline
from gpux.pipelines.chat.tools.chosen import Parts
from gpux.pipelines.generation.base import GenerationPipeline
from gpux.pipelines.generation.concurrent import ConcurrentGenerator
from gpux.pipelines.generation.text_generation import TextGenerationPipeline
from gpux.pipelines.text.encoding import EncodingPipeline
from gpux.pipelines.text.sentence import read_modules
from gpux.processors.limits import MediaLimits, set_media_limits
from gpux.pull.open import pipeline
from gpux.runtime.generation.results import Generation
from gpux.server.workers.account import Account, current, set_current
from gpux.server.workers.batching import Batcher
from gpux.server.workers.generating import Generating, TokenNames, generator_of
from gpux.server.workers.messages import (
    Answer,
    Embed,
    Failed,
    Generate,
    Generated,
    Load,
    Open,
    Rank,
    Ready,
    Request,
)
from gpux.server.workers.operations import reply_to
from gpux.server.workers.parsing import parts_of
from gpux.server.workers.reports import Reports
from gpux.server.workers.tasks import Tasks
from gpux.store.manifest import MANIFEST, read_manifest
from gpux.system.cancel import CancelToken

Send = Callable[[Any], None]

#: Settings of :class:`~gpux.server.workers.messages.Open` that the engine reads.
_SETTINGS = ("batch_wait", "max_rows", "cache_bytes", "prefix_bytes")
#: Requests that may wait in threads at once; those beyond are prepared when one of these has ended.
_THREADS = 256
#: Errors that an input of an unexpected form causes before the model runs.
_OF_THE_INPUT = (TypeError, ValueError, KeyError, IndexError, AttributeError)


def open_engine(opening: Open, send: Send) -> Engine:
    """Open the model and send :class:`Ready`.

    Raises:
        GpuxError: the model cannot be opened.
    """
    limits = opening.settings
    set_media_limits(MediaLimits(limits.get("max_pixels"), limits.get("max_frames"), limits.get("max_seconds")))
    folder = Path(opening.path)
    model = StoredModel(folder, read_manifest(folder / MANIFEST))
    pipe = pipeline(opening.task, model, device=opening.device, threads=opening.threads, spinning=False)
    engine = Engine(pipe, send, **{name: value for name, value in opening.settings.items() if name in _SETTINGS})
    send(engine.ready)
    return engine


class Engine:
    """Every method returns at once; replies are sent.

    Args:
        pipe: the open model.
        send: sends a message to the server, from any thread.
        batch_wait: seconds that a batch waits for requests that are expected.
        max_rows: sequences that are generated at once.
        cache_bytes: of their caches, and ``prefix_bytes`` of what is kept of ended answers; see
            ``GenerationPipeline.concurrent``.
    """

    def __init__(
        self,
        pipe: Pipeline,
        send: Send,
        *,
        batch_wait: float = 0.003,
        max_rows: int = 8,
        cache_bytes: int | None = None,
        prefix_bytes: int | None = None,
    ) -> None:
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
        self._max_rows, self._cache_bytes, self._prefix_bytes = max_rows, cache_bytes, prefix_bytes
        self._generators: dict[Pipeline, ConcurrentGenerator] = {}
        self._names = TokenNames(pipe.tokenizer) if isinstance(pipe, GenerationPipeline) else None
        self._tasks = Tasks(pipe, self._attach)
        self._attach(pipe)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="request")
        self._turns = ThreadPoolExecutor(1, thread_name_prefix="turns")

    @property
    def ready(self) -> Ready:
        """What the server is informed of when the model is open."""
        pipe = self._pipe
        return Ready(
            device=pipe.device,
            batches=self._generators[pipe].batches if pipe in self._generators else pipe.shares_batches,
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
        if isinstance(request, Generate):
            self._generate(account)
            return
        if isinstance(request, Answer) and self._takes_turns:
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
        account.cancel.cancel()  # a generator then ends with the text so far
        if not isinstance(account.request, Generate):
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
            if account.waits and not isinstance(account.request, Generate):
                self._end(account, Failed(_cancelled().to_dict(), account.id))
        if self._batcher is not None:
            self._batcher.close()
        for generator in self._generators.values():
            generator.close()
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
            started = time.monotonic()
            try:
                return reply_to(self._tasks, account)
            finally:
                account.timing.run = time.monotonic() - started
                self._reports.batch(0, 0)

        with self._hands:
            self._answer(account, reply)

    def _generate(self, account: Account) -> None:
        try:
            pipe = generator_of(self._pipe)
            assert self._names is not None
            Generating(
                self._generators[pipe], pipe, account, names=self._names, send=self._send, end=self._generated
            ).start()
        except Exception as error:  # noqa: BLE001 - a request must not end the worker
            self._end(account, Failed(failed(error, ran=False), account.id))

    def _generated(self, account: Account, result: Generated | GpuxError) -> None:
        self._end(account, Failed(result.to_dict(), account.id) if isinstance(result, GpuxError) else result)

    @property
    def _takes_turns(self) -> bool:
        """Whether calls of the pipeline neither share batches nor a generator."""
        return not self._pipe.shares_batches and not (self._pipe in self._generators and self._pipe.takes == "text")

    def _attach(self, pipe: Pipeline) -> None:
        """Let the calls of a pipeline share what they compute."""
        if isinstance(pipe, GenerationPipeline):
            self._generators[pipe] = pipe.concurrent(
                max_rows=self._max_rows, cache_bytes=self._cache_bytes, prefix_bytes=self._prefix_bytes
            )
            pipe.writer = self._write
        elif self._batcher is not None:
            pipe.runner = self._batcher.run

    def _write(
        self, pipe: Pipeline, inputs: Sequence[Any], options: Mapping[str, Any], cancel: CancelToken | None
    ) -> list[tuple[Generation, ...]]:
        """The sequences of a call, by the generator of its pipeline; see ``GenerationPipeline.writer``."""
        account = current()
        started = time.monotonic()
        self._hands.release()
        try:
            token = cancel if account is None else account.cancel
            if account is not None:
                account.waits = False
            found = self._generators[pipe].generate(inputs, cancel=token, **options)
        finally:
            self._hands.acquire()
        if account is not None:
            account.timing.run += time.monotonic() - started
            account.tokens += sum(written[0].prompt_tokens for written in found if written)
        return found

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
        load = Load()
        with self._lock:
            load.waiting = sum(account.waits for account in self._accounts.values())
            load.running = len(self._accounts) - load.waiting
        for generator in list(self._generators.values()):
            stats = generator.stats
            load.rows += stats.rows
            load.cache_bytes += stats.cache_bytes + stats.prefix_bytes
            load.steps += stats.steps
            for size, count in stats.batch_sizes.items():
                load.batch_sizes[size] = load.batch_sizes.get(size, 0) + count
        return load


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
    parts = _parts(pipe)
    if parts is not None and parts.tools is not None:
        found.append("tools")
    if parts is not None and parts.reasons:
        found.append("reasoning")
    return found


def _parts(pipe: Pipeline) -> Parts | None:
    """How answers to chats with tools are taken apart; None where there are none."""
    if not isinstance(pipe, TextGenerationPipeline) or not pipe.chat_template.templates:
        return None
    try:
        return parts_of(pipe, tools=True)
    except ChatTemplateError:  # several, and no default
        return None


def _switch(pipe: Pipeline) -> ThinkingSwitch | None:
    """The variable of the chat template that decides about reasoning."""
    if not isinstance(pipe, TextGenerationPipeline):
        return None
    source = chosen(pipe.chat_template.templates, tools=True)
    return None if source is None else thinking_switch(source)


def _templates(pipe: Pipeline) -> list[str]:
    """The sources of the chat templates."""
    return list(pipe.chat_template.templates.values()) if isinstance(pipe, TextGenerationPipeline) else []


def _outputs(pipe: Pipeline) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (speech := getattr(pipe, "speech", None)) is not None:
        found["speech"] = speech
    if (parts := _parts(pipe)) is not None and parts.tools is not None:
        found["tools"] = parts.tools.family
    if (switch := _switch(pipe)) is not None:
        found["thinking"] = {"variable": switch.variable, "levels": list(switch.levels)}
    if labels := getattr(pipe, "labels", None):
        found["labels"] = list(labels.values() if isinstance(labels, Mapping) else labels)
    if isinstance(pipe, EncodingPipeline):
        try:
            found["dimensions"] = pipe.dimension
            found["max_length"] = pipe.max_seq_length
            found["prompts"] = sorted(pipe.sentence.prompts or {})
            found["similarity"] = pipe.similarity_fn_name
            found["whole_texts"] = bool(read_modules(pipe.model))
        except UnsupportedError:  # the vectors of its tokens are available
            found.pop("dimensions", None)
    elif (limit := getattr(getattr(pipe, "tokenizer", None), "limit", None)) is not None:
        found["max_length"] = limit
    return found
