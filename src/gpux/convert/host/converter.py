"""Runs the worker of a converter: in which interpreter, with which request, and how its events become a report."""

from __future__ import annotations

import site
import sys
import time
from collections.abc import Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from gpux.convert.base import ConversionReport, ConversionRequest, Converter, Refusal
from gpux.convert.host.toolchain import Toolchain
from gpux.convert.spec import ConverterSpec
from gpux.errors import ConversionError, GpuxError, ToolchainMissingError, WorkerCrashedError, error_types
from gpux.model.variant import CallSpec, Threshold
from gpux.system.cancel import CancelToken
from gpux.system.launch import launch_command
from gpux.system.process import Exit, converse, tail
from gpux.system.progress import ProgressCallback, StageFinished, StageStarted, Warned
from gpux.system.settings import Settings


class ToolchainConverter(Converter):
    """The converter of a spec: its worker runs in its toolchain, or beside gpux if its libraries are installed there.

    Args:
        spec: the converter.
        settings: where toolchains are.
        python: the interpreter for the worker; default: this one if it has ``spec.modules``, else the toolchain's.
    """

    def __init__(self, spec: ConverterSpec, settings: Settings, *, python: Path | None = None) -> None:
        self.spec = spec
        self.name = spec.name
        self.precisions = spec.precisions
        self.proves_others = spec.proves_others
        self.memory = spec.memory
        self.priority = spec.priority
        self.toolchain = Toolchain(spec, settings)
        self._python = python

    def refusal(self, config: Mapping[str, Any], task: str) -> Refusal | None:
        """As the spec says."""
        return self.spec.refusal(config, task)

    def check_ready(self) -> None:
        """Return if there is an interpreter for the worker.

        Raises:
            ToolchainMissingError: the toolchain is not installed, or was installed with other requirements.
        """
        self._interpreter()

    def _interpreter(self) -> Path:
        if self._python is not None:
            return self._python
        if self.runs_here():
            return Path(sys.executable)
        if not self.spec.requirements:
            raise ToolchainMissingError(
                f"the converter {self.name} needs {', '.join(self.spec.modules)}, which this environment does not have",
                hint="Install these modules beside gpux.",
                toolchain=self.name,
                status="missing",
            )
        self.toolchain.check_ready()
        return self.toolchain.python

    def runs_here(self) -> bool:
        """Whether gpux's own environment has what the worker imports."""
        return has_modules(self.spec.modules) if self.spec.modules else not self.spec.requirements

    def _convert(self, request: ConversionRequest, progress: ProgressCallback, cancel: CancelToken) -> ConversionReport:
        start = time.monotonic()
        conversation = Conversation(progress)
        end = converse(
            launch_command(self._interpreter(), self.spec.worker),
            {"command": "convert", **request.to_dict(), **self.spec.options},
            log=request.log,
            on_event=conversation.receive,
            cancel=cancel,
        )
        return conversation.report(request, end, time.monotonic() - start)


class Conversation:
    """The events of one worker: stages and warnings are passed on at once, the last event is kept."""

    def __init__(self, progress: ProgressCallback) -> None:
        self._progress = progress
        self._stage: tuple[str, float] | None = None
        self._warnings: list[str] = []
        self._result: Mapping[str, Any] | None = None
        self._failure: Mapping[str, Any] | None = None

    def receive(self, event: Mapping[str, Any]) -> None:
        """Handle one event."""
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
        """The report of a result.

        Raises:
            GpuxError: of the type that the worker's failure names.
            WorkerCrashedError: the worker ended without a result or a failure.
        """
        if self._failure is not None:
            raise _typed_failure(self._failure, request)
        if self._result is None or end.code != 0:
            raise _crash(request, end)
        result = self._result
        return ConversionReport(
            graphs=result["graphs"],
            call_spec=CallSpec(**result.get("call_spec", {})),
            versions=result["versions"],
            seconds=seconds,
            peak_rss=max(filter(None, (result.get("peak_rss"), end.peak_rss)), default=None),
            warnings=tuple(self._warnings),
            thresholds=tuple(Threshold(**found) for found in result.get("thresholds", ())),
            small_graphs=result.get("small_graphs", {}),
        )


def _typed_failure(failure: Mapping[str, Any], request: ConversionRequest) -> GpuxError:
    """The error of the code in a worker's ``failure`` event."""
    kind = error_types().get(failure["code"], ConversionError)
    details = {"cause": failure["cause"]} if failure.get("cause") else {}
    message = f"{request.model_id} cannot be converted for {request.task}: {failure['message']}"
    return kind(message, hint=failure.get("hint") or f"The whole output: {request.log}", log=request.log, **details)


def _crash(request: ConversionRequest, end: Exit) -> WorkerCrashedError:
    last = tail(request.log)
    message = f"the conversion of {request.model_id} {end} without a result"
    hint = f"The whole output: {request.log}"
    if end.signal == "SIGKILL":
        hint = f"The system kills processes when memory runs out: close other programs, or use a larger machine. {hint}"
    return WorkerCrashedError(
        f"{message}; its last lines:\n{last}" if last else message, hint=hint, log=request.log, signal=end.signal
    )


def has_modules(names: Iterable[str]) -> bool:
    """Whether this interpreter has modules, without importing any of them.

    Only its own site-packages count: the worker runs isolated and sees neither PYTHONPATH nor the user's site. A dotted
    name is looked up as a file, because its parents may be namespace packages of several folders.
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
