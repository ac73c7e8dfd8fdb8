"""What every converter with a worker shares: the conversation with it, and where its libraries may be."""

from __future__ import annotations

import site
import time
from collections.abc import Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from gpux.convert.base import ConversionReport, ConversionRequest
from gpux.convert.host.toolchain import WORKER
from gpux.errors import ConversionError, GpuxError, WorkerCrashedError, error_types
from gpux.model.variant import Driving, Threshold
from gpux.system.cancel import CancelToken
from gpux.system.launch import LAUNCHER
from gpux.system.process import Exit, converse, tail
from gpux.system.progress import ProgressCallback, StageFinished, StageStarted, Warned


def convert_in_worker(
    python: Path,
    request: ConversionRequest,
    options: Mapping[str, Any],
    progress: ProgressCallback,
    cancel: CancelToken,
) -> ConversionReport:
    """Start the worker in an interpreter, hand it the request and ``options``, and make its words a report.

    Raises:
        GpuxError: of the type that the worker named.
        WorkerCrashedError: it ended without a result.
        CancelledError: the token was set.
        ToolchainError: the interpreter cannot be started.
    """
    start = time.monotonic()
    conversation = Conversation(progress)
    end = converse(
        (python, "-I", LAUNCHER, WORKER),
        {"command": "convert", **request.to_dict(), **options},
        log=request.log,
        on_event=conversation.hear,
        cancel=cancel,
    )
    return conversation.report(request, end, time.monotonic() - start)


class Conversation:
    """What the worker said: stages and warnings passed on at once, the last word kept."""

    def __init__(self, progress: ProgressCallback) -> None:
        self._progress = progress
        self._stage: tuple[str, float] | None = None
        self._warnings: list[str] = []
        self._result: Mapping[str, Any] | None = None
        self._failure: Mapping[str, Any] | None = None

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take one event."""
        kind = event["event"]
        if kind == "stage":
            self._finish_stage()
            self._stage = (event["stage"], time.monotonic())
            self._progress(StageStarted(event["stage"], event["message"]))
        elif kind == "warning":
            self._warnings.append(event["message"])
            self._progress(Warned(event["message"]))
        elif kind == "result":
            self._finish_stage()
            self._result = event
        elif kind == "failure":
            self._failure = event

    def _finish_stage(self) -> None:
        if self._stage is not None:
            stage, start = self._stage
            self._progress(StageFinished(stage, "", time.monotonic() - start))
            self._stage = None

    def report(self, request: ConversionRequest, end: Exit, seconds: float) -> ConversionReport:
        """The report behind the result.

        Raises:
            GpuxError: of the type that the worker named; or WorkerCrashedError, when it ended without a word.
        """
        if self._failure is not None:
            raise typed_failure(self._failure, request)
        if self._result is None or end.code != 0:
            raise _crash(request, end)
        result = self._result
        return ConversionReport(
            graphs=result["graphs"],
            driving=Driving(**result["driving"]),
            versions=result["versions"],
            seconds=seconds,
            peak_rss=max(filter(None, (result.get("peak_rss"), end.peak_rss)), default=None),
            warnings=tuple(self._warnings),
            thresholds=tuple(Threshold(**found) for found in result.get("thresholds", ())),
            twin=result.get("twin", {}),
        )


def typed_failure(failure: Mapping[str, Any], request: ConversionRequest) -> GpuxError:
    """The error that a worker's ``failure`` event names by its code."""
    kind = error_types().get(failure["code"], ConversionError)
    details = {"cause": failure["cause"]} if failure.get("cause") else {}
    message = f"{request.model_id} cannot be converted for {request.task}: {failure['message']}"
    return kind(message, hint=failure.get("hint") or f"The whole output: {request.log}", log=request.log, **details)


def _crash(request: ConversionRequest, end: Exit) -> WorkerCrashedError:
    last = tail(request.log)
    message = f"the conversion of {request.model_id} {end} without a result"
    hint = f"The whole output: {request.log}"
    if end.signal == "SIGKILL":
        hint = f"The system kills what takes too much memory: free some, or use a larger machine. {hint}"
    return WorkerCrashedError(
        f"{message}; its last words:\n{last}" if last else message, hint=hint, log=request.log, signal=end.signal
    )


def has_modules(names: Iterable[str]) -> bool:
    """Whether this interpreter has modules, without importing any of them.

    Only its own site-packages count: the worker runs isolated and sees neither PYTHONPATH nor the user's site.
    A dotted name is looked for as a file, since its parents may be namespaces that lie in several places.
    """
    folders = site.getsitepackages()
    return all(_has_module(name, folders) for name in names)


def _has_module(name: str, folders: list[str]) -> bool:
    top, *rest = name.split(".")
    found = PathFinder.find_spec(top, folders)
    if found is None or not rest:
        return found is not None
    places = found.submodule_search_locations or ()
    return any(Path(place, *rest, "__init__.py").is_file() for place in places)
