"""The task of a model and the order of its converters, from its listing and config, before weights are fetched."""

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


def choose_task(info: ModelInfo, requested: str | None = None) -> str:
    """The task of a model: the requested one, else that of its files. The name of the model is not used.

    Raises:
        UnsupportedTaskError: no task was requested, and the files do not determine one.
    """
    found = canonical(requested) if requested is not None else own_task(info)
    if found is None:
        found_in = f"the architectures {', '.join(info.architectures)}" if info.architectures else "no architectures"
        raise UnsupportedTaskError(
            f"the files of {info.id} do not determine its task: no modules.json, no pipeline_tag, "
            f"{found_in} in config.json",
            hint="Name the task with --task, for example `--task feature-extraction`.",
            model=info.id,
        )
    return found


def own_task(info: ModelInfo) -> str | None:
    """The task that a model's files determine, else the one of its page; None if there is neither."""
    if info.file("modules.json") is not None:  # sentence-transformers, whatever the tag
        return _sentence_task(info)
    found = canonical(info.task) if info.task else task_of_architectures(info.architectures)
    return found or ("text-generation" if info.formats == ("gguf",) else None)  # llama.cpp's format for decoders


def _sentence_task(info: ModelInfo) -> str:
    """The task of a model of sentence-transformers: of a cross-encoder, of a sparse encoder, else of dense vectors.

    A cross-encoder has no pooling; since version 5.4 it has a ``modules.json``. The folders of modules have the names
    that sentence-transformers writes.
    """
    parts = {part for file in info.files for part in file.path.split("/")[:-1]}
    kinds = {part.rpartition("_")[2].lower() for part in parts}
    if "spladepooling" in kinds:
        return "fill-mask"
    classifies = any(name.endswith("ForSequenceClassification") for name in info.architectures)
    ranks = "pooling" not in kinds and (classifies or info.task == "text-ranking")
    return "text-classification" if ranks else "feature-extraction"


def assess(
    config: Mapping[str, Any], task: str, precision: str, converters: Mapping[str, Converter]
) -> dict[str, Refusal | None]:
    """Converter -> its refusal of a model, or None if it converts the model; the preferred converter first.

    The order is measured, see :func:`preference`. Toolchains are not checked.

    Args:
        config: the model's ``config.json``, or the known part.
        task: the Hub's name.
        precision: of the requested graph.
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
    """The names in the order that the coverage matrix measured for such models; unmeasured converters last.

    ``preferences.json`` is written by ``./dev coverage_matrix``: task -> model type -> converters that were proven.
    """
    measured = _preferences().get(task, {}).get(model_type, [])
    return sorted(names, key=lambda name: measured.index(name) if name in measured else len(measured))


@cache
def _preferences() -> dict[str, dict[str, list[str]]]:
    text = (files("gpux.convert") / "preferences.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, list[str]]] = json.loads(text)
    return found


def unsupported(
    model_id: str, config: Mapping[str, Any], task: str, reasons: Mapping[str, Refusal]
) -> UnsupportedTaskError | UnsupportedArchitectureError:
    """The error for a model that every converter refuses; an error of the task if one supports the architecture."""
    model_type = config.get("model_type")
    tried = "; ".join(f"{name} {refusal}" for name, refusal in reasons.items()) or "no converter is registered"
    message = f"{model_id} (model type {model_type or 'unknown'}) cannot be converted for {task}: {tried}"
    details = {"model": model_id, "model_type": model_type, "task": task}
    if any(refusal.supports_architecture for refusal in reasons.values()):
        return UnsupportedTaskError(message, hint="Name another task with --task.", **details)
    hint = f"Look for another model of the same kind: `gpux search --task {task}`."
    return UnsupportedArchitectureError(message, hint=hint, **details)
