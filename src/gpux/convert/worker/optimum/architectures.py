"""The ``architectures`` command: what Optimum converts, asked of its own registry and of transformers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import optimum.exporters.onnx.model_configs  # noqa: F401 - importing it fills the registry
from optimum.exporters.tasks import TasksManager
from transformers import PretrainedConfig
from transformers.models.auto.auto_factory import _BaseAutoModelClass
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from gpux.convert.worker.common.loading import choose_class
from gpux.convert.worker.common.tasks import PAST, hub_tasks, meant
from gpux.convert.worker.optimum.relatives import register
from gpux.system.worker_protocol import Refused


def architectures() -> dict[str, Any]:
    """``architectures``: model type -> Hub tasks that can be converted; ``others``: what Optimum knows besides."""
    from gpux.convert.worker.common.versions import versions

    register()
    converted: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for model_type, exporters in sorted(TasksManager._SUPPORTED_MODEL_TYPE.items()):
        known = set(exporters.get("onnx", {}))
        able = possible(model_type, known)
        if found := hub_tasks(model_type, able):
            converted[model_type] = found
        if rest := sorted({task.removesuffix(PAST) for task in known} - {task.removesuffix(PAST) for task in able}):
            others[model_type] = rest
    return {"versions": versions(), "architectures": converted, "others": others}


def possible(model_type: str, known: Collection[str]) -> set[str]:
    """Those of Optimum's tasks for which transformers has a class of this type."""
    if model_type not in CONFIG_MAPPING:
        return set()
    config = CONFIG_MAPPING[model_type]
    return {task for task in known if _has_class(model_type, task) and meant(task, both_ways=_goes_both_ways(config))}


def _goes_both_ways(config: type[PretrainedConfig]) -> bool:
    """Whether a model of this configuration is an encoder-decoder."""
    try:
        return bool(config().is_encoder_decoder)
    except ValueError:  # made of two configurations, which must be given
        return True


def _has_class(model_type: str, task: str) -> bool:
    try:
        found = choose_class(model_type, task)
    except Refused:
        return False
    return not issubclass(found, _BaseAutoModelClass) or CONFIG_MAPPING[model_type] in found._model_mapping
