"""The original of a decoder, as transformers loads it, from its own files or from a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from gpux.convert.worker.mobius.gguf import ggufs
from gpux.system.worker_protocol import Refused


class Original:
    """Loads the model of a folder, each time afresh.

    Args:
        source: folder of config and weights, or of one GGUF file.

    Raises:
        Refused: transformers has no text generator for its model type.
    """

    def __init__(self, source: Path) -> None:
        self._source = source
        self._options = _options(source)
        self.config = read_config(source)
        if type(self.config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
            raise Refused("unsupported_task", f"transformers has no text generator for {self.config.model_type}")
        self.model_class: type[PreTrainedModel] = MODEL_FOR_CAUSAL_LM_MAPPING[type(self.config)]

    def load(self) -> PreTrainedModel:
        """The model in float32 and evaluation mode. Weights that are stored so stay mapped from their file.

        Raises:
            Refused: the checkpoint does not hold every weight.
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
    """The model's configuration: its ``config.json``, or what its GGUF file says.

    Raises:
        Refused: there is none, or transformers does not know its model type.
    """
    if options := _options(source):
        return AutoConfig.from_pretrained(source, local_files_only=True, **options)
    try:
        raw = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Refused("conversion", "the model has no config.json, which says what it is") from None
    except ValueError as exc:
        raise Refused("corrupt_file", f"config.json is not JSON: {exc}") from exc
    if raw.get("model_type") not in CONFIG_MAPPING:
        own = "is defined by code in the repository, which mobius cannot use" if "auto_map" in raw else "is unknown"
        raise Refused("unsupported_architecture", f"model type {raw.get('model_type')!r} {own}")
    return AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)


def _options(source: Path) -> dict[str, Any]:
    """What tells transformers to read a GGUF file, where that is all there is."""
    files = ggufs(source)
    return {"gguf_file": files[0].name} if files else {}
