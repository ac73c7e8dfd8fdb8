"""Names of tasks: what Optimum calls what the Hub calls otherwise."""

from __future__ import annotations

from collections.abc import Collection

PAST = "-with-past"
_SEQ2SEQ = ("text2text-generation-with-past",)
_CAPTIONS = ("image-to-text-with-past", "image-to-text")

#: Hub's name -> Optimum's names in order of preference; a task that is not here has the same name in both.
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
#: Optimum's tasks that lead to a graph, each under its own name on the Hub's side as well.
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
#: The only types whose answer to a task of another name is what this one asks for.
ONLY = {
    "mask-generation": ("sam",),
    "zero-shot-audio-classification": ("clap",),
    "document-question-answering": ("layoutlmv3", "lilt", "pix2struct", "vision-encoder-decoder"),
    "visual-question-answering": ("pix2struct", "blip"),
}
#: A type is one of images when Optimum knows it for one of these.
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
    """Optimum's names for a task of the Hub, the preferred first; empty for one that leads to no graph."""
    return CANDIDATES.get(hub_task, (hub_task,) if hub_task in SAME else ())


def hub_tasks(model_type: str, known: Collection[str]) -> list[str]:
    """The Hub's tasks that a model type is converted for, when Optimum knows it for ``known``."""
    able = set(known)
    found = [task for task in (*CANDIDATES, *SAME) if able & set(candidates(task))]
    if not able & _IMAGES and model_type not in _IMAGE_BACKBONES:
        found = [task for task in found if task != "image-feature-extraction"]
    return sorted(task for task in found if model_type in ONLY.get(task, (model_type,)))


def meant(task: str, *, both_ways: bool) -> bool:
    """Whether a task of Optimum's leads to graphs, for an encoder-decoder (``both_ways``) or another model.

    An encoder-decoder is registered as its decoder alone, too, which its weights are not made for.
    """
    return not (both_ways and task.startswith("text-generation"))
