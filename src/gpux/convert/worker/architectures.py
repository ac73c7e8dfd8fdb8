"""The ``architectures`` command: what Optimum knows, asked of its own registry."""

from __future__ import annotations

from typing import Any

import optimum.exporters.onnx.model_configs  # noqa: F401 - importing it fills the registry
from optimum.exporters.tasks import TasksManager
from tasks import KNOWN_INPUTS, OPTIMUM_TASK
from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from versions import versions


def architectures() -> dict[str, Any]:
    """``architectures``: model type -> Hub tasks that can be converted; ``others``: what Optimum knows besides."""
    converted: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for model_type, exporters in sorted(TasksManager._SUPPORTED_MODEL_TYPE.items()):
        known = exporters.get("onnx", {})
        able = {task for task, constructor in known.items() if _is_text_encoder(model_type, constructor)}
        hub = sorted(name for name, task in OPTIMUM_TASK.items() if task in able)
        rest = sorted(task for task in known if task not in able and not task.endswith("-with-past"))
        if hub:
            converted[model_type] = hub
        if rest:
            others[model_type] = rest
    return {"versions": versions(), "architectures": converted, "others": others}


def _is_text_encoder(model_type: str, constructor: Any) -> bool:
    """Whether the graph asks for nothing but text."""
    task = constructor.keywords["task"]
    if task not in OPTIMUM_TASK.values() or constructor.keywords.get("use_past") or model_type not in CONFIG_MAPPING:
        return False
    described = constructor(AutoConfig.for_model(model_type), int_dtype="int64", float_dtype="fp32")
    return set(described.inputs) <= KNOWN_INPUTS
