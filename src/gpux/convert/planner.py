"""Which task, and which converters, in which order: pure, from what a manager told and before any weights travel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpux.convert.base import Converter, Refusal
from gpux.errors import UnsupportedArchitectureError, UnsupportedTaskError, UsageError
from gpux.tasks import canonical, task_of_architectures
from gpux.types import ModelInfo


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
    return canonical(info.task) if info.task else task_of_architectures(info.architectures)


def choose_converters(
    model_id: str, config: Mapping[str, Any], task: str, precision: str, converters: Mapping[str, Converter]
) -> list[Converter]:
    """The converters that take the model, in their order, at least one. Whether one is ready to run is not asked here.

    Args:
        model_id: for messages.
        config: its ``config.json``, or as much of it as is known.
        task: the Hub's name.
        precision: of the graph that is wanted.
        converters: by name, in the order to try.

    Raises:
        UnsupportedArchitectureError: no converter knows the architecture; the message has each one's reason.
        UnsupportedTaskError: one knows it, for other tasks.
        UsageError: none writes the precision.
    """
    able = {name: converter for name, converter in converters.items() if precision in converter.precisions}
    if not able:
        raise _no_precision(precision, converters)
    refusals = {name: converter.refusal(config, task) for name, converter in able.items()}
    taking = [able[name] for name, refusal in refusals.items() if refusal is None]
    if not taking:
        reasons = {name: refusal for name, refusal in refusals.items() if refusal is not None}
        raise _nobody(model_id, config, task, reasons)
    return taking


def _no_precision(precision: str, converters: Mapping[str, Converter]) -> UsageError:
    known = sorted({found for converter in converters.values() for found in converter.precisions})
    return UsageError(f"no converter writes {precision}", hint=f"What there is: {', '.join(known) or 'no converter'}.")


def _nobody(
    model_id: str, config: Mapping[str, Any], task: str, reasons: Mapping[str, Refusal]
) -> UnsupportedTaskError | UnsupportedArchitectureError:
    model_type = config.get("model_type")
    tried = "; ".join(f"{name} {refusal}" for name, refusal in reasons.items())
    message = f"{model_id} (model type {model_type or 'unknown'}) cannot be converted for {task}: {tried}"
    details = {"model": model_id, "model_type": model_type, "task": task}
    if any(refusal.knows_architecture for refusal in reasons.values()):
        return UnsupportedTaskError(message, hint="Name another task with --task.", **details)
    hint = f"Another model of the same kind may do: `gpux search --task {task}`."
    return UnsupportedArchitectureError(message, hint=hint, **details)
