"""The converter that drives Optimum's exporter in a worker process, in the interpreter that has its libraries."""

from __future__ import annotations

import difflib
import json
import site
import sys
import time
from collections.abc import Mapping
from functools import cache
from importlib.machinery import PathFinder
from importlib.resources import files
from pathlib import Path
from typing import Any

from gpux.cancel import CancelToken
from gpux.convert.base import ConversionReport, ConversionRequest, Converter, Refusal
from gpux.convert.process import Exit, converse, tail
from gpux.convert.toolchain import Toolchain
from gpux.errors import ConversionError, GpuxError, WorkerCrashedError, error_types
from gpux.progress import ProgressCallback, StageFinished, StageStarted, Warned
from gpux.settings import Settings
from gpux.variants import Driving, Threshold

WORKER = Path(__file__).parent / "worker"
TOOLCHAIN = "optimum"


class OptimumConverter(Converter):
    """Converts what Optimum's registry knows, for tasks of text encoders.

    Args:
        settings: says where toolchains are.
        python: the interpreter that has torch, transformers and optimum; default: this one where ``gpux[convert]``
            is installed, else the isolated toolchain's.
    """

    name = "optimum"

    def __init__(self, settings: Settings, *, python: Path | None = None) -> None:
        self.toolchain = Toolchain(TOOLCHAIN, settings)
        self._python = python

    def refusal(self, config: Mapping[str, Any], task: str) -> Refusal | None:
        """Why not, from the table of what the pinned Optimum knows; None if it can."""
        model_type = str(config.get("model_type") or "")
        table = _table()
        convertible, others = table["architectures"].get(model_type, []), table["others"].get(model_type, [])
        if task in convertible:
            return None
        if convertible:
            return Refusal(f"converts {model_type} for {', '.join(convertible)}, not for {task}", True)
        if others:
            return Refusal(f"knows {model_type} for {', '.join(others)}, which gpux does not convert yet", True)
        near = difflib.get_close_matches(model_type, sorted({*table["architectures"], *table["others"]}), n=3)
        nearest = f"; the nearest that it knows: {', '.join(near)}" if near else ""
        return Refusal(f"does not know the model type {model_type!r}{nearest}", False)

    def check_ready(self) -> None:
        """Return if there is an interpreter to work in."""
        self._interpreter()

    def _interpreter(self) -> Path:
        if self._python is not None:
            return self._python
        if installed_here():
            return Path(sys.executable)
        self.toolchain.check_ready()
        return self.toolchain.python

    def _convert(self, request: ConversionRequest, progress: ProgressCallback, cancel: CancelToken) -> ConversionReport:
        start = time.monotonic()
        conversation = _Conversation(progress)
        end = converse(
            (self._interpreter(), "-I", WORKER),
            {"command": "convert", **request.to_dict()},
            log=request.log,
            on_event=conversation.hear,
            cancel=cancel,
        )
        return conversation.report(request, end, time.monotonic() - start)


class _Conversation:
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
            raise _typed(self._failure, request)
        if self._result is None or end.code != 0:
            raise _crash(request, end)
        result = self._result
        return ConversionReport(
            graphs=result["graphs"],
            driving=Driving(**result["driving"]),
            versions=result["versions"],
            seconds=seconds,
            peak_rss=result.get("peak_rss"),
            warnings=tuple(self._warnings),
            thresholds=tuple(Threshold(**found) for found in result.get("thresholds", ())),
            twin=result.get("twin", {}),
        )


def _typed(failure: Mapping[str, Any], request: ConversionRequest) -> GpuxError:
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


@cache
def _table() -> dict[str, Any]:
    text = (files("gpux.convert") / "optimum_architectures.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def installed_here() -> bool:
    """Whether this interpreter has what the worker imports, without importing any of it.

    Only its own site-packages count: the worker runs isolated and sees neither PYTHONPATH nor the user's site.
    """
    folders = site.getsitepackages()
    if not all(PathFinder.find_spec(name, folders) for name in ("torch", "transformers")):
        return False
    optimum = PathFinder.find_spec("optimum", folders)  # a namespace: its parts may lie in several places
    places = (optimum.submodule_search_locations or ()) if optimum is not None else ()
    return any((Path(place) / "exporters" / "onnx" / "__init__.py").is_file() for place in places)
