"""Runs requests on the model of this process."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from gpux.errors import CancelledError, GpuxError, RunError, UnsupportedTaskError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import Pipeline
from gpux.pipelines.generation.base import GenerationPipeline
from gpux.pull.open import pipeline
from gpux.server.workers.calls import Calls
from gpux.server.workers.messages import (
    Answer,
    Answered,
    Embed,
    Embedded,
    Failed,
    Generate,
    Generated,
    Open,
    Piece,
    Ready,
    Request,
    Sequence,
    Tensor,
    Timing,
)
from gpux.store.manifest import MANIFEST, read_manifest
from gpux.system.cancel import CancelToken

Send = Callable[[Any], None]


class Engine(Protocol):
    """What the program calls; every method returns at once."""

    def submit(self, request: Request) -> None:
        """Queue a request; its replies are sent."""

    def cancel(self, id: int) -> None:
        """End a request, if it has not ended."""

    def close(self) -> None:
        """Cancel what waits, wait for what runs, and free the model."""


def open_engine(opening: Open, send: Send) -> Engine:
    """Open the model and send :class:`Ready`.

    Raises:
        GpuxError: the model cannot be opened.
    """
    folder = Path(opening.path)
    model = StoredModel(folder, read_manifest(folder / MANIFEST))
    pipe = pipeline(opening.task, model, device=opening.device, threads=opening.threads, spinning=False)
    engine = TurnEngine(pipe, send)
    send(Ready(device=pipe.device, batches=False, chat=bool(getattr(pipe, "chat_template", None))))
    return engine


class TurnEngine:
    """Runs one request after the other."""

    def __init__(self, pipe: Pipeline, send: Send) -> None:
        self._pipe, self._send = pipe, send
        self._calls = Calls(pipe)
        self._tokens: dict[int, CancelToken] = {}
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")

    def submit(self, request: Request) -> None:
        """See :class:`Engine`."""
        token = CancelToken()
        with self._lock:
            self._tokens[request.id] = token
        self._thread.submit(self._run, request, token, time.monotonic())

    def cancel(self, id: int) -> None:
        """See :class:`Engine`."""
        with self._lock:
            token = self._tokens.get(id)
        if token is not None:
            token.cancel()

    def close(self) -> None:
        """See :class:`Engine`."""
        with self._lock:
            for token in self._tokens.values():
                token.cancel()
        self._thread.shutdown(wait=True)
        self._pipe.close()

    def _run(self, request: Request, token: CancelToken, queued: float) -> None:
        try:
            token.check()
            self._send(self._reply(request, token, Timing(queue=time.monotonic() - queued)))
        except CancelledError as error:
            self._send(Failed(error.to_dict(), request.id))
        except Exception as error:  # noqa: BLE001 - a request must not end the worker
            self._send(Failed(failed(error), request.id))
        finally:
            with self._lock:
                self._tokens.pop(request.id, None)

    def _reply(self, request: Request, token: CancelToken, timing: Timing) -> Any:
        started = time.monotonic()
        if isinstance(request, Generate):
            return self._generate(request, token, timing)
        if isinstance(request, Embed):
            encode = getattr(self._pipe, "encode", None)
            if encode is None:
                raise UnsupportedTaskError(f"{self._pipe.task} gives no vectors", hint="Use a model of embeddings.")
            vectors = encode(request.texts, **request.options)
            timing.run = time.monotonic() - started
            tensor = Tensor("float32", vectors.shape, vectors.astype("<f4").tobytes())
            return Embedded(request.id, tensor, 0, timing)
        if not isinstance(request, Answer):
            raise UnsupportedTaskError("this request is not supported yet")
        answers = self._answers(request)
        timing.run = time.monotonic() - started
        return Answered(request.id, answers, timing)

    def _answers(self, request: Answer) -> Any:
        if request.as_call:
            return self._calls.call(request.inputs, request.options, request.task)
        return self._pipe.answers(request.inputs, request.options)

    def _generate(self, request: Generate, token: CancelToken, timing: Timing) -> Generated:
        pipe = self._pipe
        if not isinstance(pipe, GenerationPipeline):
            raise UnsupportedTaskError(f"{pipe.task} generates no text", hint="Use a model of text-generation.")
        sequences = []
        for number, one in enumerate(request.inputs):
            with pipe.stream(one, cancel=token, **request.options) as stream:
                for text in stream:
                    self._send(Piece(request.id, number, text))
                found = stream.result
            timing.prefill, timing.decode = found.timings.prefill, found.timings.decode
            sequences.append(
                Sequence(
                    found.text,
                    found.finish_reason,
                    len(found.tokens),
                    found.prompt_tokens,
                    found.timings.reused_tokens,
                    found.stopped_by,
                )
            )
        return Generated(request.id, sequences, timing)


def failed(error: BaseException) -> dict[str, Any]:
    """An error of a request as a message carries it; the text of an unexpected one goes to the log alone."""
    if isinstance(error, GpuxError):
        return error.to_dict()
    sys.excepthook(type(error), error, error.__traceback__)
    return RunError("the model could not answer", hint="The server's log has the reason.").to_dict()
