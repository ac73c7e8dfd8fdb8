"""The ``architectures`` command with mobius: the decoders in its registry whose original transformers can load."""

from __future__ import annotations

from typing import Any

from mobius import registry
from mobius._config_resolver import _default_task_for_model
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from gpux.convert.worker.common.versions import versions
from gpux.convert.worker.mobius.build import TASK


def architectures() -> dict[str, Any]:
    """``architectures``: model type -> Hub tasks that can be converted; ``others``: mobius' own task, not converted.

    Without the original nothing can be proven, so what transformers cannot load is left out.
    """
    converted: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for model_type in registry.architectures():
        task = _default_task_for_model(model_type)
        if model_type not in CONFIG_MAPPING_NAMES:
            continue
        if task == TASK and model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            converted[model_type] = [TASK]
        else:
            others[model_type] = [task]
    return {"versions": versions(), "architectures": converted, "others": others}
