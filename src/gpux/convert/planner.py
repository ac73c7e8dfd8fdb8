"""Which task, and which converters, in which order: pure, from what a manager told and before any weights travel."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from gpux.convert.base import Converter, Refusal
from gpux.errors import UnsupportedArchitectureError, UnsupportedTaskError
from gpux.model.info import ModelInfo
from gpux.model.tasks import canonical, task_of_architectures


def choose_task(info: ModelInfo, asked: str | None = None) -> str:
    """The task of a model: what was asked for, else what its files say. Its name says nothing.

    Raises:
        UnsupportedTaskError: nothing tells.
    """
    found = canonical(asked) if asked is not None else own_task(info)
    if found is None:
        said = f"the architectures {', '.join(info.architectures)}" if info.architectures else "no architectures"
        raise UnsupportedTaskError(
            f"the files of {info.id} do not tell its task: no modules.json, no pipeline_tag, {said} in config.json",
            hint="Name the task with --task, for example `--task feature-extraction`.",
            model=info.id,
        )
    return found


def own_task(info: ModelInfo) -> str | None:
    """The task that a model's own files name, else its page; None where nothing tells."""
    if info.file("modules.json") is not None:  # sentence-transformers: whatever its tag says, it makes vectors
        return "feature-extraction"
    found = canonical(info.task) if info.task else task_of_architectures(info.architectures)
    return found or ("text-generation" if info.formats == ("gguf",) else None)  # llama.cpp's format of decoders


def assess(
    config: Mapping[str, Any], task: str, precision: str, converters: Mapping[str, Converter]
) -> dict[str, Refusal | None]:
    """What each converter says to the model, the preferred one first; None where it takes it.

    The order is measured, see :func:`preference`. Whether a converter is ready to run is not asked here.

    Args:
        config: the model's ``config.json``, or as much of it as is known.
        task: the Hub's name.
        precision: of the graph that is wanted.
        converters: by name.
    """
    found: dict[str, Refusal | None] = {}
    for name in preference(task, str(config.get("model_type")), converters):
        converter = converters[name]
        if precision in converter.precisions:
            found[name] = converter.refusal(config, task)
        else:
            found[name] = Refusal(f"writes {', '.join(converter.precisions)}, not {precision}", True)
    return found


def preference(task: str, model_type: str, names: Iterable[str]) -> list[str]:
    """The names, those that the coverage matrix measured as better for such a model first.

    ``preferences.json`` is written by ``nox -s coverage_matrix``: task -> model type -> converters that were proven.
    """
    measured = _preferences().get(task, {}).get(model_type, [])
    return sorted(names, key=lambda name: measured.index(name) if name in measured else len(measured))


@cache
def _preferences() -> dict[str, dict[str, list[str]]]:
    text = (files("gpux.convert") / "preferences.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, list[str]]] = json.loads(text)
    return found


def nobody_takes(
    model_id: str, config: Mapping[str, Any], task: str, reasons: Mapping[str, Refusal]
) -> UnsupportedTaskError | UnsupportedArchitectureError:
    """The error for a model that every converter refuses: of the task where one knows the architecture."""
    model_type = config.get("model_type")
    tried = "; ".join(f"{name} {refusal}" for name, refusal in reasons.items()) or "there is no converter"
    message = f"{model_id} (model type {model_type or 'unknown'}) cannot be converted for {task}: {tried}"
    details = {"model": model_id, "model_type": model_type, "task": task}
    if any(refusal.knows_architecture for refusal in reasons.values()):
        return UnsupportedTaskError(message, hint="Name another task with --task.", **details)
    hint = f"Another model of the same kind may do: `gpux search --task {task}`."
    return UnsupportedArchitectureError(message, hint=hint, **details)
