"""Inputs and options of a call that came over HTTP.

A text from a client is never taken for the path of a file: pictures and sounds are bytes, into which the server has
turned base64 and addresses (:meth:`gpux.server.media.intake.Media.read_inputs`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from gpux.errors import InputError, UsageError
from gpux.pipelines.base import Pipeline
from gpux.pipelines.options import OptionSpec, described, fits

#: Options that name a file of this machine, or a program that it runs.
_LOCAL_OPTIONS = frozenset({"vad", "chat_template"})
#: Keys of a sound that is given as numbers.
_SOUND_KEYS = frozenset({"raw", "array", "sampling_rate"})


def checked_options(pipe: Pipeline, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call; None is left out where an option cannot be None.

    Raises:
        UsageError: the pipeline does not have an option, its value has another type or is out of its range, or it names
            a file of this machine; ``param`` is the name of the option.
    """
    specs = _specs(type(pipe))
    found = {}
    inner = options.get("generate_kwargs")
    for name in [*options, *(_LOCAL_OPTIONS.intersection(inner) if isinstance(inner, Mapping) else ())]:
        value = options.get(name)
        if name not in specs:
            near = difflib.get_close_matches(name, specs, 1)
            raise UsageError(
                f"{pipe.task} has no option {name!r}",
                hint=f"Did you mean {near[0]}?" if near else f"It has: {', '.join(sorted(specs))}.",
                param=name,
            )
        schema = specs[name].schema
        if fits(value, schema):
            found[name] = value
        elif value is not None:
            raise UsageError(
                f"{name} of {pipe.task} has an invalid value", hint=f"It must be {described(schema)}.", param=name
            )
    return found


@cache
def _specs(kind: type[Pipeline]) -> dict[str, OptionSpec]:
    """The options that a request may set, by name."""
    return {spec.name: spec for spec in kind.options() if spec.name not in _LOCAL_OPTIONS}


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


def _check_texts(inputs: Any, task: str, *, depth: int, index: int | None = None) -> None:
    """Texts, objects, and lists of both; what else an object has to be, the pipeline checks."""
    if isinstance(inputs, (str, dict)):
        return
    if not isinstance(inputs, (list, tuple)) or depth > 1:
        details: dict[str, Any] = {} if index is None else {"index": index}
        raise InputError(f"an input of {task} must be a text, an object, or a list of them", **details)
    if not inputs:
        raise InputError(f"the list of inputs of {task} is empty", hint="Send at least one input.")
    for place, one in enumerate(inputs):
        _check_texts(one, task, depth=depth + 1, index=place if index is None else index)


def _file(given: Any, pipe: Pipeline, index: int) -> Any:
    if isinstance(given, bytes):
        return given
    if isinstance(given, Mapping) and "image" in given and pipe.takes == "image":
        return {**given, "image": _file(given["image"], pipe, index)}
    if pipe.takes == "audio" and isinstance(given, Mapping) and set(given) <= _SOUND_KEYS:
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
