"""The checkpoint of a decoder: its tensors for mobius, and the original as transformers loads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from gpux.system.worker_protocol import Refused

#: Index or single file, in order of preference.
SAFETENSORS = ("model.safetensors.index.json", "model.safetensors")
PICKLES = ("pytorch_model.bin.index.json", "pytorch_model.bin")


def read_weights(source: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the checkpoint in a folder, by name; from safetensors, else from PyTorch's own files.

    Tensors are mapped from their files, so that unread ones use no memory.

    Raises:
        Refused: there are no weights, or a file that an index names is missing.
    """
    for name in (*SAFETENSORS, *PICKLES):
        if (source / name).is_file():
            return {key: tensor for file in _parts(source / name) for key, tensor in _read(file).items()}
    raise Refused("no_weights", f"the repository has none of {', '.join((*SAFETENSORS, *PICKLES))}")


def _parts(file: Path) -> list[Path]:
    """The files with tensors: the file itself, or the files in the same folder that it indexes."""
    if file.suffix != ".json":
        return [file]
    try:
        names = sorted(set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Refused("corrupt_file", f"{file.name} is not an index of weights: {exc}") from exc
    missing = [name for name in names if Path(name).name != name or not (file.parent / name).is_file()]
    if missing:
        raise Refused("no_weights", f"{file.name} names {', '.join(missing[:3])}, which the repository does not have")
    return [file.parent / name for name in names]


def _read(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        return load_file(file)
    # weights_only: no code of the file is run. Files older than PyTorch 1.6 cannot be mapped.
    try:
        found: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:
        found = torch.load(file, map_location="cpu", weights_only=True)
    return found


def ggufs(source: Path) -> list[Path]:
    """The one GGUF file of a folder without other weights, or an empty list.

    Raises:
        Refused: there are several.
    """
    if any((source / name).is_file() for name in (*SAFETENSORS, *PICKLES)):
        return []
    found = sorted(source.glob("*.gguf"))
    if len(found) > 1:
        raise Refused("conversion", f"there are several GGUF files: {', '.join(file.name for file in found)}")
    return found


class Original:
    """The original model of a folder, as transformers loads it.

    Args:
        source: folder with config and weights, or with one GGUF file.

    Raises:
        Refused: transformers has no class for text generation of its model type.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        self._options = _options(source)
        self.config = read_config(source)
        if type(self.config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise Refused(
                "unsupported_task", f"transformers has no class for text generation of {self.config.model_type}"
            )
        self.model_class: type[PreTrainedModel] = MODEL_FOR_CAUSAL_LM_MAPPING[type(self.config)]

    def load(self) -> PreTrainedModel:
        """Load the model in float32 and evaluation mode; float32 weights stay mapped from their file.

        Raises:
            Refused: the checkpoint lacks a weight.
        """
        model, info = self.model_class.from_pretrained(
            self._source,
            config=self.config,
            dtype=torch.float32,
            local_files_only=True,
            weights_only=True,
            output_loading_info=True,
            **self._options,
        )
        if info["missing_keys"] or info["mismatched_keys"]:
            names = sorted(map(str, info["missing_keys"] or info["mismatched_keys"]))
            raise Refused("conversion", f"the weights do not fit the configuration: {', '.join(names[:3])}")
        return model.eval()


def read_config(source: Path) -> PretrainedConfig:
    """The model's configuration, from ``config.json`` or its GGUF file.

    Raises:
        Refused: there is no configuration, or transformers does not support its model type.
    """
    if options := _options(source):
        return AutoConfig.from_pretrained(source, local_files_only=True, **options)
    try:
        raw = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused("conversion", "the repository has no config.json") from None
    except ValueError as exc:
        raise Refused("corrupt_file", f"config.json is not JSON: {exc}") from exc
    if raw.get("model_type") not in CONFIG_MAPPING:
        own = (
            "is defined by code in the repository, which mobius cannot use"
            if "auto_map" in raw
            else "is not supported by transformers"
        )
        raise Refused("unsupported_architecture", f"model type {raw.get('model_type')!r} {own}")
    return AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)


def _options(source: Path) -> dict[str, Any]:
    """The option with which transformers reads a GGUF file, for a folder without other weights."""
    files = ggufs(source)
    return {"gguf_file": files[0].name} if files else {}
