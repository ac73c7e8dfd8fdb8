"""Loading a model for one task: its config, its class, its weights, and whether the weights are all there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from protocol import Refused
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

#: Files that hold PyTorch or safetensors weights, whole or as the index of their parts.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def load_config(source: Path, *, trust_remote_code: bool) -> PretrainedConfig:
    """The model's configuration.

    Raises:
        Refused: there is none, or transformers does not know its model type.
    """
    file = source / "config.json"
    if not file.is_file():
        raise Refused("conversion", "the model has no config.json, which says what it is")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise Refused("corrupt_file", f"config.json is not JSON: {exc}") from exc
    model_type = raw.get("model_type")
    if model_type not in CONFIG_MAPPING and not (trust_remote_code and "auto_map" in raw):
        raise _unknown_type(model_type, own_code="auto_map" in raw)
    return AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=trust_remote_code)


def _unknown_type(model_type: Any, *, own_code: bool) -> Refused:
    if own_code:
        hint = "If you trust the repository, allow it with trust_remote_code=True or --trust-remote-code."
        return Refused(
            "unsupported_architecture", f"model type {model_type!r} is defined by code in the repository", hint
        )
    return Refused("unsupported_architecture", f"transformers knows no model type {model_type!r}")


def load_model(
    source: Path, model_class: type[PreTrainedModel], *, trust_remote_code: bool
) -> tuple[PreTrainedModel, list[str]]:
    """The model in float32 and evaluation mode, and the names of parameters that the weights do not hold.

    Safetensors are preferred; a pickle is read by torch's loader of weights only, which runs no code.

    Raises:
        Refused: there are no weights.
    """
    if not any((source / name).is_file() for name in WEIGHTS):
        raise Refused("no_weights", f"none of {', '.join(WEIGHTS)} is there")
    model, info = model_class.from_pretrained(
        source,
        local_files_only=True,
        trust_remote_code=trust_remote_code,
        torch_dtype=torch.float32,
        weights_only=True,
        output_loading_info=True,
    )
    return model.eval(), sorted(info["missing_keys"])


def answer(model: PreTrainedModel, inputs: dict[str, Any]) -> dict[str, Any]:
    """What the model answers, by name; parts that are not tensors are left out."""
    with torch.inference_mode():
        outputs = model(**inputs, return_dict=True)
    return {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}


def refuse_invented(model: PreTrainedModel, missing: list[str], inputs: dict[str, Any], outputs: list[str]) -> None:
    """Refuse when an output depends on a parameter that the weights do not hold and transformers drew at random.

    A missing pooler does not matter where the pooled vector is no output; a missing head does. NaN in the missing
    parameters tells: it spreads to every value that depends on them.

    Raises:
        Refused: an output depends on one.
    """
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name in missing}
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floating:
        return
    before = {name: tensor.clone() for name, tensor in floating.items()}
    for tensor in floating.values():
        tensor.fill_(float("nan"))
    answers = answer(model, inputs)
    for name, tensor in floating.items():
        tensor.copy_(before[name])
    if any(name in answers and bool(answers[name].isnan().any()) for name in outputs):
        raise Refused(
            "unsupported_task",
            f"the weights do not hold {_some(sorted(floating))}, which {type(model).__name__} needs",
            "The model was not trained for this task: name another one with --task.",
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
