"""Loads a model for one task: its config, its class and its weights, and refuses it if needed weights are missing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from optimum.exporters.tasks import TasksManager
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from gpux.convert.worker.optimum.parts import Parts, call
from gpux.system.worker_protocol import Refused

#: Files of PyTorch or safetensors weights, or indexes of such files.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
#: Types whose input sizes depend on their processor.
PROCESSED = frozenset({"pix2struct"})


def load_config(source: Path, *, trust_remote_code: bool) -> PretrainedConfig:
    """The model's configuration.

    Raises:
        Refused: there is no configuration, or transformers does not support its model type.
    """
    file = source / "config.json"
    if not file.is_file():
        raise Refused("conversion", "the repository has no config.json")
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
    return Refused("unsupported_architecture", f"transformers does not support the model type {model_type!r}")


def load_model(
    source: Path, model_class: type[PreTrainedModel], *, trust_remote_code: bool
) -> tuple[PreTrainedModel, list[str]]:
    """The model in float32 and evaluation mode, and the names of parameters that the checkpoint lacks.

    Safetensors are preferred; a pickle is read with ``weights_only``, which runs no code.

    Raises:
        Refused: there are no weights.
    """
    if not any((source / name).is_file() for name in WEIGHTS):
        raise Refused("no_weights", f"the repository has none of {', '.join(WEIGHTS)}")
    try:
        model, info = model_class.from_pretrained(
            source,
            local_files_only=True,
            trust_remote_code=trust_remote_code,
            torch_dtype=torch.float32,
            weights_only=True,
            output_loading_info=True,
        )
    except RuntimeError as exc:  # weights of another shape than the configuration's
        hint = "The files of the repository do not match: try another revision, or report it to the author."
        raise Refused("conversion", "the weights do not fit config.json", hint) from exc
    return model.eval(), sorted(info["missing_keys"])


def choose_class(model_type: str, task: str, architectures: Sequence[str] = ()) -> type[PreTrainedModel]:
    """The class of transformers, or an Auto class, for a task of Optimum.

    The ``architectures`` in the config name the class of an encoder that was cut out of an encoder-decoder.

    Raises:
        Refused: transformers has no such class.
    """
    import transformers

    encoder = next((name for name in architectures if name.endswith("EncoderModel")), None)
    if task == "feature-extraction" and encoder is not None and hasattr(transformers, encoder):
        cut: type[PreTrainedModel] = getattr(transformers, encoder)
        return cut
    try:
        found: type[PreTrainedModel] = TasksManager.get_model_class_for_task(
            task, framework="pt", model_type=model_type
        )
    except (KeyError, ValueError) as exc:
        raise Refused("unsupported_task", f"transformers has no class of {model_type} for {task}") from exc
    return found


def load_preprocessors(source: Path, model_type: str) -> list[Any]:
    """The tokenizer and the processor, for types whose graphs depend on them; an empty list for others."""
    if model_type not in PROCESSED:
        return []
    from transformers import AutoProcessor, AutoTokenizer

    try:
        return [kind.from_pretrained(source, local_files_only=True) for kind in (AutoTokenizer, AutoProcessor)]
    except (OSError, ValueError) as exc:
        hint = "The repository must have preprocessor_config.json and a tokenizer."
        raise Refused("conversion", f"{model_type} cannot be converted without its processor: {exc}", hint) from exc


def load_vocoder(source: Path, model_type: str) -> dict[str, Any]:
    """The folder of the vocoder that speecht5 needs; empty for other types.

    Raises:
        Refused: the repository has no folder ``vocoder``.
    """
    if model_type != "speecht5":
        return {}
    if not (source / "vocoder" / "config.json").is_file():
        raise Refused("conversion", "speecht5 needs a vocoder, and the repository has no folder `vocoder`")
    return {"vocoder": str(source / "vocoder")}


def refuse_random_weights(
    model: PreTrainedModel, parts: Parts, missing: list[str], model_kwargs: dict[str, Any]
) -> None:
    """Refuse a model if an output depends on a parameter that the checkpoint lacks, which transformers drew at random.

    A missing pooler does not matter if the pooled vector is not an output; a missing head does. The missing parameters
    are set to NaN, which spreads to every value that depends on them.

    Args:
        model: the whole model.
        parts: each becomes one graph.
        missing: names of the parameters.
        model_kwargs: further arguments of the traced calls.

    Raises:
        Refused: an output depends on a missing parameter.
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
            f"the checkpoint lacks {_some(sorted(floating))}, which {type(model).__name__} needs",
            "The model was not trained for this task: name another task with --task.",
        )


def _holds_nan(answers: Any) -> bool:
    return any(bool(tensor.isnan().any()) for tensor in _tensors(answers))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every floating-point tensor in nested outputs."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        yield from _tensors_of_all(value.values())
    elif isinstance(value, (list, tuple)):
        yield from _tensors_of_all(value)


def _tensors_of_all(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    for value in values:
        yield from _tensors(value)


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
