"""Registers model types that Optimum does not support, with the OnnxConfig of a similar type or one of gpux's own.

Every graph is compared with the original afterwards, so a wrong registration is a refusal and not a wrong graph.
"""

from __future__ import annotations

from functools import cache

import optimum.exporters.onnx.model_configs as known
from optimum.exporters.onnx.base import OnnxConfig
from optimum.exporters.tasks import TasksManager

from gpux.convert.worker.optimum import onnx_configs as own

_GENERATION = ("feature-extraction", "text-generation", "text-generation-with-past")
_CLASSIFIED = (*_GENERATION, "text-classification")
_ENCODED = tuple(known.COMMON_TEXT_TASKS)
_SEQ2SEQ = ("feature-extraction", "text2text-generation", "text2text-generation-with-past")
_IMAGES = ("feature-extraction", "image-classification")
_SPEECH = (
    "feature-extraction",
    "automatic-speech-recognition",
    "audio-classification",
    "audio-frame-classification",
    "audio-xvector",
)

#: OnnxConfig -> model type -> tasks.
ADDED: dict[type[OnnxConfig], dict[str, tuple[str, ...]]] = {
    own.Grouped: {
        **dict.fromkeys(
            ("bitnet", "cohere2", "dots1", "ernie4_5", "flex_olmo", "granitemoe", "granitemoeshared"), _GENERATION
        ),
        **dict.fromkeys(("hunyuan_v1_dense", "olmo3", "olmoe", "vaultgemma"), _GENERATION),
        **dict.fromkeys(("apertus", "diffllama", "exaone4", "glm4", "glm4_moe", "jetmoe", "ministral"), _CLASSIFIED),
        **dict.fromkeys(("mixtral", "phimoe", "qwen2_moe", "seed_oss", "starcoder2"), _CLASSIFIED),
    },
    own.Ungrouped: {"persimmon": _CLASSIFIED, "biogpt": _CLASSIFIED, "xglm": _GENERATION},
    known.BertOnnxConfig: {"ernie": _ENCODED},
    own.FNet: {"fnet": _ENCODED},
    known.DistilBertOnnxConfig: {"roberta-prelayernorm": _ENCODED, "xlm-roberta-xl": _ENCODED, "xmod": _ENCODED},
    own.Funnel: {"funnel": _ENCODED},
    own.XLNet: {"xlnet": ("text-classification", "token-classification", "multiple-choice", "feature-extraction")},
    known.T5OnnxConfig: {"umt5": _SEQ2SEQ},
    known.BartOnnxConfig: {"plbart": _SEQ2SEQ, "mvp": _SEQ2SEQ, "pegasus_x": _SEQ2SEQ},
    own.LED: {"led": _SEQ2SEQ},
    known.ViTOnnxConfig: {
        **dict.fromkeys(("bit", "focalnet", "mobilevitv2", "swiftformer", "vit_hybrid"), _IMAGES),
        "dinov3_vit": ("feature-extraction",),
        "dinov3_convnext": ("feature-extraction",),
        "depth_anything": ("depth-estimation",),
    },
    own.Cropped: {"dinov2_with_registers": _IMAGES},
    known.DetrOnnxConfig: {"conditional_detr": ("feature-extraction", "object-detection", "image-segmentation")},
    own.Clap: {"clap": ("feature-extraction",)},
    own.ClipSeg: {"clipseg": ("image-segmentation",)},
    own.Siglip2: {"siglip2": ("feature-extraction", "zero-shot-image-classification")},
    own.Blip: {"blip": ("image-to-text",)},
    own.Filterbank: {"wav2vec2-bert": _SPEECH},
}
#: Types that Optimum supports with an incorrect OnnxConfig.
REPLACED: dict[type[OnnxConfig], dict[str, tuple[str, ...]]] = {
    own.Falcon: {"falcon": ("feature-extraction", "feature-extraction-with-past", "text-generation",
                             "text-generation-with-past", "question-answering", "token-classification")},
    own.Longformer: {"longformer": _ENCODED},
    own.LongT5: {"longt5": (*_SEQ2SEQ, "feature-extraction-with-past")},
    own.Cropped: {"dinov2": _IMAGES},
    own.MetaClip: {"metaclip_2": (*_IMAGES, "zero-shot-image-classification")},
    own.SqueezedSound: dict.fromkeys(
        ("sew", "sew-d"), ("feature-extraction", "automatic-speech-recognition", "audio-classification")
    ),
    own.Whisper: {
        "whisper": (
            *("feature-extraction", "feature-extraction-with-past", "audio-classification"),
            *("automatic-speech-recognition", "automatic-speech-recognition-with-past"),
        )
    },
    own.ShortSound: {"mctct": ("feature-extraction", "automatic-speech-recognition")},
}  # fmt: skip
#: Classes that Optimum does not find by task: (type, task) -> name in transformers.
CLASSES = {
    ("clipseg", "image-segmentation"): "CLIPSegForImageSegmentation",
    ("blip", "image-to-text"): "BlipForConditionalGeneration",
}


@cache
def register() -> None:
    """Register all of them with Optimum, once per process."""
    add, replace = TasksManager.create_register("onnx"), TasksManager.create_register("onnx", overwrite_existing=True)
    for description, types in ADDED.items():
        for model_type, tasks in types.items():
            add(model_type, *tasks)(description)
    for description, types in REPLACED.items():
        for model_type, tasks in types.items():
            replace(model_type, *tasks)(description)
    for (model_type, task), name in CLASSES.items():
        TasksManager._CUSTOM_CLASSES[("pt", model_type, task)] = ("transformers", name)
