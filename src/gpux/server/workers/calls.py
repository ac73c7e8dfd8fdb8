"""Calls of a loaded model in the form of ``transformers.pipeline``, with values that came over HTTP.

A stored model answers several tasks: one that is stored for text2text-generation also summarizes and translates. The
pipelines of a worker share the model's graphs, and each is made when a call names its task first. A text from a client
is never taken for the path of a file: pictures and sounds are bytes, or a text in base64.
"""

from __future__ import annotations

import base64
import binascii
import io
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpux.errors import InputError, UnsupportedTaskError, UsageError
from gpux.model.tasks import canonical, translation_pair
from gpux.pipelines.base import Pipeline
from gpux.pipelines.options import described, fits
from gpux.pipelines.registry import check_reads, pipeline_class

#: Options that name a file of this machine, or a program that it runs.
_LOCAL_OPTIONS = frozenset({"vad", "chat_template"})
#: Keys of a sound that is given as numbers.
_SOUND_KEYS = frozenset({"raw", "array", "sampling_rate"})


class Calls:
    """The pipelines of a worker's model, by the tasks that calls name; safe to use from many threads.

    Args:
        pipe: the worker's own pipeline, which stays open while calls are made.
    """

    def __init__(self, pipe: Pipeline) -> None:
        self._pipe = pipe
        self._others: dict[str, Pipeline] = {}
        self._lock = threading.Lock()

    def call(self, inputs: Any, options: Mapping[str, Any], task: str | None = None) -> Any:
        """What ``pipeline(task, model)(inputs, **options)`` returns, as JSON-able values: pictures as PNG in base64.

        Args:
            inputs: one input or a list of them, as the pipeline takes them; pictures and sounds as bytes or base64.
            options: of the call, by name.
            task: Hub's name or alias of a task; None: that of the worker.

        Raises:
            UnsupportedTaskError: the model does not answer the task.
            UsageError: an option is unknown, or has a value of another type.
            InputError: an input is invalid.
        """
        pipe = self._pipe if task is None else self._of(task)
        check_options(pipe, options)
        return plain(pipe(received(pipe, inputs), **options))

    def _of(self, task: str) -> Pipeline:
        kind, pair = pipeline_class(task), translation_pair(task)
        if kind is type(self._pipe) and pair is None:
            return self._pipe
        model = self._pipe.model
        if kind.model_task != canonical(model.task):
            raise UnsupportedTaskError(
                f"{model.id} is stored for {model.task}, not for {task}", hint="Name a model of that task."
            )
        check_reads(kind, model)
        name = kind.task if pair is None else f"{kind.task} {pair}"
        with self._lock:
            if name not in self._others:
                more: dict[str, Any] = {} if pair is None else {"pair": pair}
                self._others[name] = kind(model, graphs=self._pipe.graphs, **more)
            return self._others[name]


def check_options(pipe: Pipeline, options: Mapping[str, Any]) -> None:
    """Refuse options that the pipeline does not have, values of another type, and paths of this machine.

    Raises:
        UsageError: ``param`` is the name of the option.
    """
    specs = {spec.name: spec for spec in pipe.options() if spec.name not in _LOCAL_OPTIONS}
    for name, value in options.items():
        if name not in specs:
            raise UsageError(
                f"{pipe.task} has no option {name!r}", hint=f"It has: {', '.join(sorted(specs))}.", param=name
            )
        if not fits(value, specs[name].schema):
            raise UsageError(
                f"{name} of {pipe.task} has an invalid value",
                hint=f"It must be {described(specs[name].schema)}.",
                param=name,
            )


def received(pipe: Pipeline, inputs: Any) -> Any:
    """The inputs of a call as the pipeline takes them, from JSON.

    Raises:
        InputError: they have none of the accepted forms.
    """
    if pipe.takes == "text":
        _check_texts(inputs, pipe.task, depth=0)
        return inputs
    if isinstance(inputs, (list, tuple)):
        return [_file(one, pipe, index) for index, one in enumerate(inputs)]
    return _file(inputs, pipe, 0)


def _check_texts(inputs: Any, task: str, depth: int) -> None:
    """Texts, objects, and lists of both; what else an object has to be, the pipeline checks."""
    if isinstance(inputs, (str, dict)):
        return
    if not isinstance(inputs, (list, tuple)) or depth > 1:
        raise InputError(f"an input of {task} must be a text, an object, or a list of them")
    if not inputs:
        raise InputError(f"the list of inputs of {task} is empty", hint="Send at least one input.")
    for one in inputs:
        _check_texts(one, task, depth + 1)


def _file(given: Any, pipe: Pipeline, index: int) -> Any:
    if isinstance(given, bytes):
        return given
    if isinstance(given, str):
        try:
            data = base64.b64decode(
                given.partition(";base64,")[2] if given.startswith("data:") else given, validate=True
            )
        except (binascii.Error, ValueError):
            data = b""
        if data:
            return data
    elif pipe.takes == "audio" and isinstance(given, Mapping) and set(given) <= _SOUND_KEYS:
        return {key: _numbers(value, index) if isinstance(value, list) else value for key, value in given.items()}
    raise InputError(
        f"an input of {pipe.task} must be the content of a file in base64",
        hint="Encode the file: base64 -w0 FILE.",
        index=index,
    )


def _numbers(values: Sequence[Any], index: int) -> Any:
    try:
        return np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise InputError("the samples of a sound must be numbers", index=index) from None


def plain(value: Any) -> Any:
    """A pipeline's answer as JSON-able values: arrays as lists, pictures as PNG files in base64."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "save") and hasattr(value, "getbands"):  # a PIL image; that package is an extra
        content = io.BytesIO()
        value.save(content, format="PNG")
        return base64.b64encode(content.getvalue()).decode()
    return value
