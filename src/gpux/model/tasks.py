"""Names of tasks: gpux uses those of the Hub, and accepts aliases.

The list of tasks is huggingface.co/tasks. The aliases come from ``transformers.pipeline``, from Optimum, and from tags
of the Hub whose models have the same graph.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

#: Alias -> Hub's name.
ALIASES = {
    "embedding": "feature-extraction",
    "embeddings": "feature-extraction",
    "sentence-embedding": "feature-extraction",
    "sentence-embeddings": "feature-extraction",
    "sentence-similarity": "feature-extraction",
    "image-feature-extraction": "feature-extraction",
    "audio-feature-extraction": "feature-extraction",
    "late-interaction": "feature-extraction",
    "masked-lm": "fill-mask",
    "sparse-embedding": "fill-mask",
    "sentiment-analysis": "text-classification",
    "sequence-classification": "text-classification",
    "text-ranking": "text-classification",  # a cross-encoder is a classifier with one label
    "zero-shot-classification": "text-classification",  # by a model of natural language inference
    "ner": "token-classification",
    "named-entity-recognition": "token-classification",
    "vqa": "visual-question-answering",
    "causal-lm": "text-generation",
    "conversational": "text-generation",
    "text2text": "text2text-generation",
    "seq2seq-lm": "text2text-generation",
    "summarization": "text2text-generation",
    "translation": "text2text-generation",
    "speech-to-text": "automatic-speech-recognition",
    "asr": "automatic-speech-recognition",
    "text-to-speech": "text-to-audio",
    "semantic-segmentation": "image-segmentation",
    "instance-segmentation": "image-segmentation",
    "panoptic-segmentation": "image-segmentation",
    "vision2seq": "image-to-text",
    "image-captioning": "image-to-text",
    "speech-recognition": "automatic-speech-recognition",
}

#: Prefixes of class names whose suffix does not determine the task -> task (from transformers' auto mappings).
_CLASSES = (
    ("Whisper", "automatic-speech-recognition"),
    ("Speech2Text", "automatic-speech-recognition"),
    ("SpeechEncoderDecoder", "automatic-speech-recognition"),
    ("Moonshine", "automatic-speech-recognition"),
    ("Pix2Struct", "image-to-text"),
    ("Blip", "image-to-text"),
    ("VisionEncoderDecoder", "image-to-text"),
    ("EncoderDecoder", "text2text-generation"),
    ("Musicgen", "text-to-audio"),
    ("SpeechT5ForTextToSpeech", "text-to-audio"),
    ("Vits", "text-to-audio"),
    ("SamModel", "mask-generation"),
    ("ClapModel", "zero-shot-audio-classification"),
    ("CLIPModel", "zero-shot-image-classification"),
    ("ChineseCLIPModel", "zero-shot-image-classification"),
    ("MetaClip2Model", "zero-shot-image-classification"),
    ("SiglipModel", "zero-shot-image-classification"),
    ("Siglip2Model", "zero-shot-image-classification"),
    ("OwlViTForObjectDetection", "zero-shot-object-detection"),
    ("Owlv2ForObjectDetection", "zero-shot-object-detection"),
    ("GroundingDinoForObjectDetection", "zero-shot-object-detection"),
    ("MMGroundingDinoForObjectDetection", "zero-shot-object-detection"),
    ("OmDetTurboForObjectDetection", "zero-shot-object-detection"),
    ("PatchTS", "time-series-forecasting"),
    ("DecisionTransformer", "reinforcement-learning"),
)
#: Suffixes that determine the task even for the classes above.
_PURPOSES = ("ForAudioClassification", "ForSequenceClassification", "ForQuestionAnswering")

#: Types of models of sounds, whose classes for labels are called ``…ForSequenceClassification`` as those of texts.
_OF_SOUNDS = (
    "Data2VecAudio",
    "Hubert",
    "SEW",
    "SEWD",
    "UniSpeech",
    "UniSpeechSat",
    "Wav2Vec2",
    "Wav2Vec2Bert",
    "Wav2Vec2Conformer",
    "WavLM",
)

#: Suffix of a class name in ``architectures`` of config.json -> the Hub's name of the task. The first match counts, so
#: that the bare ``Model`` comes last.
_SUFFIXES = (
    *((f"{kind}ForSequenceClassification", "audio-classification") for kind in _OF_SOUNDS),
    ("ForMaskedLM", "fill-mask"),
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForQuestionAnsweringSimple", "question-answering"),
    ("ForMultipleChoice", "multiple-choice"),
    ("ForCausalLM", "text-generation"),
    ("LMHeadModel", "text-generation"),
    ("MTModel", "text2text-generation"),
    ("ForConditionalGeneration", "text2text-generation"),
    ("ForImageClassification", "image-classification"),
    ("ForImageClassificationWithTeacher", "image-classification"),
    ("ForVideoClassification", "video-classification"),
    ("ForObjectDetection", "object-detection"),
    ("ForSemanticSegmentation", "image-segmentation"),
    ("ForInstanceSegmentation", "image-segmentation"),
    ("ForUniversalSegmentation", "image-segmentation"),
    ("ForImageSegmentation", "image-segmentation"),
    ("ForSegmentation", "image-segmentation"),
    ("ForDepthEstimation", "depth-estimation"),
    ("ForPoseEstimation", "keypoint-detection"),
    ("ForImageSuperResolution", "image-to-image"),
    ("ForAudioClassification", "audio-classification"),
    ("ForAudioFrameClassification", "audio-frame-classification"),
    ("ForXVector", "audio-xvector"),
    ("ForCTC", "automatic-speech-recognition"),
    ("HF_ColBERT", "feature-extraction"),
    ("Model", "feature-extraction"),
)


#: Task that models are stored for -> the graph input that they are recognized by -> the task of their pipeline.
_BY_INPUT = {
    "feature-extraction": {
        "pixel_values": "image-feature-extraction",
        "input_values": "audio-feature-extraction",
        "input_features": "audio-feature-extraction",
    }
}

#: ``translation_XX_to_YY`` of ``transformers.pipeline``.
_TRANSLATION = re.compile(r"translation[_-]([^\s_-]+)[_-]to[_-]([^\s_-]+)", re.IGNORECASE)


def canonical(name: str) -> str:
    """The Hub's name of a task; other names are returned in lower case, with hyphens for underscores.

    Optimum's ``-with-past`` is dropped, since gpux exports every decoder with its cache. ``translation_en_to_de`` is a
    translation.
    """
    plain = name.strip().lower().replace("_", "-").removesuffix("-with-past")
    return ALIASES.get("translation" if translation_pair(name) else plain, plain)


def task_by_inputs(task: str, inputs: Collection[str]) -> str:
    """The task whose pipeline reads what a graph reads.

    Models of pictures and sounds are stored for ``feature-extraction``, as models of texts are. A graph that reads
    texts too keeps the task.

    Args:
        task: the Hub's name of the task that the model is stored for.
        inputs: names of the graph's inputs.
    """
    return next(
        (found for name, found in _BY_INPUT.get(task, {}).items() if name in inputs and "input_ids" not in inputs), task
    )


def tasks_by_inputs(task: str) -> frozenset[str]:
    """Every task that :func:`task_by_inputs` may give for a task; empty where it always gives the same one."""
    found = _BY_INPUT.get(task, {})
    return frozenset({task, *found.values()}) if found else frozenset()


def translation_pair(name: str) -> tuple[str, str] | None:
    """The languages in a task's name such as ``translation_en_to_de``; None for every other task."""
    found = _TRANSLATION.fullmatch(name.strip())
    return (found[1], found[2]) if found else None


def task_of_architectures(architectures: Sequence[str]) -> str | None:
    """The task of a model, from the class names in its config.json; None if no name determines a task."""
    for architecture in architectures:
        if not architecture.endswith(_PURPOSES):
            for prefix, task in _CLASSES:
                if architecture.startswith(prefix):
                    return task
        for suffix, task in _SUFFIXES:
            if architecture.endswith(suffix):
                return task
    return None


#: https://huggingface.co/tasks, and the other values of ``pipeline_tag``.
HUB_TASKS = frozenset(
    (
        "any-to-any",
        "audio-classification",
        "audio-text-to-text",
        "audio-to-audio",
        "automatic-speech-recognition",
        "depth-estimation",
        "document-question-answering",
        "feature-extraction",
        "fill-mask",
        "graph-ml",
        "image-classification",
        "image-feature-extraction",
        "image-segmentation",
        "image-text-to-image",
        "image-text-to-text",
        "image-text-to-video",
        "image-to-3d",
        "image-to-image",
        "image-to-text",
        "image-to-video",
        "keypoint-detection",
        "mask-generation",
        "multiple-choice",
        "object-detection",
        "question-answering",
        "reinforcement-learning",
        "robotics",
        "sentence-similarity",
        "summarization",
        "table-question-answering",
        "table-to-text",
        "tabular-classification",
        "tabular-regression",
        "tabular-to-text",
        "text-classification",
        "text-generation",
        "text-ranking",
        "text-retrieval",
        "text-to-3d",
        "text-to-audio",
        "text-to-image",
        "text-to-speech",
        "text-to-video",
        "text2text-generation",
        "time-series-forecasting",
        "token-classification",
        "translation",
        "unconditional-image-generation",
        "video-classification",
        "video-text-to-text",
        "video-to-video",
        "visual-document-retrieval",
        "visual-question-answering",
        "voice-activity-detection",
        "zero-shot-classification",
        "zero-shot-image-classification",
        "zero-shot-object-detection",
    )
)


def is_known(task: str) -> bool:
    """Whether this is the name of a task: one of the Hub, or one that only class names of transformers determine."""
    return task in HUB_TASKS or any(task == found for _, found in (*_CLASSES, *_SUFFIXES))


def task_named(text: str) -> str | None:
    """The Hub's task of a name or alias; None if it is unknown."""
    plain = "-".join(text.lower().replace("_", " ").replace("-", " ").split())
    return next((name for name in (plain, canonical(plain)) if name in HUB_TASKS), None)
