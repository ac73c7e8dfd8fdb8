"""The tasks and model types that Optimum converts, by its own registry and by the classes of transformers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import optimum.exporters.onnx.model_configs  # noqa: F401 - importing it fills the registry
from optimum.exporters.tasks import TasksManager
from transformers import PretrainedConfig
from transformers.models.auto.auto_factory import _BaseAutoModelClass
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from gpux.convert.worker.optimum.loading import choose_class
from gpux.convert.worker.optimum.registrations import register
from gpux.system.worker_protocol import Refused

PAST = "-with-past"
_SEQ2SEQ = ("text2text-generation-with-past",)
_CAPTIONS = ("image-to-text-with-past", "image-to-text")

#: The Hub's name of a task -> Optimum's names in order of preference; other tasks have the same name in both.
CANDIDATES: dict[str, tuple[str, ...]] = {
    "text-generation": ("text-generation-with-past",),
    "text2text-generation": _SEQ2SEQ,
    "summarization": _SEQ2SEQ,
    "translation": _SEQ2SEQ,
    "automatic-speech-recognition": ("automatic-speech-recognition-with-past", "automatic-speech-recognition"),
    "image-to-text": _CAPTIONS,
    "image-text-to-text": _CAPTIONS,
    "document-question-answering": ("document-question-answering", "question-answering", *_CAPTIONS),
    "visual-question-answering": ("visual-question-answering", *_CAPTIONS),
    "image-segmentation": ("image-segmentation", "semantic-segmentation"),
    "semantic-segmentation": ("semantic-segmentation", "image-segmentation"),
    "mask-generation": ("feature-extraction",),
    "text-to-speech": ("text-to-audio",),
    "text-to-audio": ("text-to-audio",),
    "zero-shot-classification": ("text-classification",),
    "image-feature-extraction": ("feature-extraction",),
    "zero-shot-audio-classification": ("feature-extraction",),
}
#: Optimum's tasks that lead to a graph and have the same name on the Hub.
SAME = (
    "audio-classification",
    "audio-frame-classification",
    "audio-xvector",
    "depth-estimation",
    "feature-extraction",
    "fill-mask",
    "image-classification",
    "image-to-image",
    "keypoint-detection",
    "masked-im",
    "multiple-choice",
    "object-detection",
    "question-answering",
    "reinforcement-learning",
    "text-classification",
    "time-series-forecasting",
    "token-classification",
    "zero-shot-image-classification",
    "zero-shot-object-detection",
)
#: Tasks whose graph comes from a task of another name, which answers them for these types only.
ONLY = {
    "mask-generation": ("sam",),
    "zero-shot-audio-classification": ("clap",),
    "document-question-answering": ("layoutlmv3", "lilt", "pix2struct", "vision-encoder-decoder"),
    "visual-question-answering": ("pix2struct", "blip"),
}
#: Optimum's tasks of which image models support at least one.
_IMAGES = {"image-classification", "masked-im", "zero-shot-image-classification"}
_IMAGE_BACKBONES = {
    "clip_vision_model",
    "siglip_vision_model",
    "dinov3_vit",
    "dinov3_convnext",
    "donut-swin",
    "vit_mae",
}


def candidates(hub_task: str) -> tuple[str, ...]:
    """Optimum's names for a task of the Hub, the preferred first; empty for a task without a graph."""
    return CANDIDATES.get(hub_task, (hub_task,) if hub_task in SAME else ())


def hub_tasks(model_type: str, supported: Collection[str]) -> list[str]:
    """The Hub's tasks that a model type is converted for, if Optimum supports ``supported`` for it."""
    able = set(supported)
    found = [task for task in (*CANDIDATES, *SAME) if able & set(candidates(task))]
    if not able & _IMAGES and model_type not in _IMAGE_BACKBONES:
        found = [task for task in found if task != "image-feature-extraction"]
    return sorted(task for task in found if model_type in ONLY.get(task, (model_type,)))


def is_usable(task: str, *, encoder_decoder: bool) -> bool:
    """Whether a task of Optimum leads to a useful graph.

    Optimum registers an encoder-decoder also as its decoder alone, for which the weights were not trained.
    """
    return not (encoder_decoder and task.startswith("text-generation"))


def supported_architectures() -> dict[str, Any]:
    """The ``architectures`` command.

    Returns ``architectures``, model type -> Hub tasks that can be converted, and ``others``, model type -> tasks of
    Optimum that cannot.
    """
    from gpux.convert.worker.common.environment import versions

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
    """The Optimum tasks for which transformers has a class of this type."""
    if model_type not in CONFIG_MAPPING:
        return set()
    config = CONFIG_MAPPING[model_type]
    return {
        task
        for task in known
        if _has_class(model_type, task) and is_usable(task, encoder_decoder=_is_encoder_decoder(config))
    }


def _is_encoder_decoder(config: type[PretrainedConfig]) -> bool:
    """Whether models with this configuration are encoder-decoders."""
    try:
        return bool(config().is_encoder_decoder)
    except ValueError:  # composed of two configurations, which the constructor requires
        return True


def _has_class(model_type: str, task: str) -> bool:
    try:
        found = choose_class(model_type, task)
    except Refused:
        return False
    return not issubclass(found, _BaseAutoModelClass) or CONFIG_MAPPING[model_type] in found._model_mapping
