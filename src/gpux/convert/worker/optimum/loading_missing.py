"""Weights that a repository does not hold: harmless where nothing depends on them, a refusal where something does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from transformers import PreTrainedModel

from gpux.convert.worker.optimum.parts import Parts, call
from gpux.system.worker_protocol import Refused


def refuse_invented(model: PreTrainedModel, parts: Parts, missing: list[str], model_kwargs: dict[str, Any]) -> None:
    """Refuse when an output depends on a parameter that the weights do not hold and transformers drew at random.

    A missing pooler does not matter where the pooled vector is no output; a missing head does. NaN in the missing
    parameters tells: it spreads to every value that depends on them.

    Args:
        model: the whole model.
        parts: what becomes a graph each.
        missing: names of the parameters.
        model_kwargs: what the traced calls get besides their inputs.

    Raises:
        Refused: an output depends on one.
    """
    found = {name: tensor for name, tensor in model.state_dict().items() if name in set(missing)}
    floating = {name: tensor for name, tensor in found.items() if tensor.is_floating_point()}
    if not floating:
        return
    before = {name: tensor.clone() for name, tensor in floating.items()}
    for tensor in floating.values():
        tensor.fill_(float("nan"))
    spread = any(_holds_nan(call(module, part, model_kwargs)) for module, part in parts.values())
    for name, tensor in floating.items():
        tensor.copy_(before[name])
    if spread:
        raise Refused(
            "unsupported_task",
            f"the weights do not hold {_some(sorted(floating))}, which {type(model).__name__} needs",
            "The model was not trained for this task: name another one with --task.",
        )


def _holds_nan(answers: Any) -> bool:
    return any(bool(tensor.isnan().any()) for tensor in _tensors(answers))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor of floats in a nested answer."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        yield from _of_all(value.values())
    elif isinstance(value, (list, tuple)):
        yield from _of_all(value)


def _of_all(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        yield from _tensors(value)


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
