"""Names of tasks: the Hub's are gpux's, and everything else that people type is an alias.

The Hub's list is that of huggingface.co/tasks; the aliases are those of ``transformers.pipeline``, of Optimum and of
the Hub's own tags for what is the same graph.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Alias -> Hub's name.
ALIASES = {
    "embedding": "feature-extraction",
    "embeddings": "feature-extraction",
    "sentence-embedding": "feature-extraction",
    "sentence-embeddings": "feature-extraction",
    "sentence-similarity": "feature-extraction",
    "masked-lm": "fill-mask",
    "sentiment-analysis": "text-classification",
    "sequence-classification": "text-classification",
    "text-ranking": "text-classification",  # a cross-encoder is a classifier with one label
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

#: Classes whose task their kind of name does not tell, by how the name begins (transformers' auto mappings).
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
    ("CLIPModel", "zero-shot-image-classification"),
    ("ChineseCLIPModel", "zero-shot-image-classification"),
    ("MetaClip2Model", "zero-shot-image-classification"),
    ("SiglipModel", "zero-shot-image-classification"),
    ("Siglip2Model", "zero-shot-image-classification"),
    ("PatchTS", "time-series-forecasting"),
    ("DecisionTransformer", "reinforcement-learning"),
)
#: The same, for classes named after both the kind and a purpose, which counts more.
_PURPOSES = ("ForAudioClassification", "ForSequenceClassification", "ForQuestionAnswering")

#: End of a class name in ``architectures`` of config.json -> Hub's name. The first that fits counts, so that the bare
#: ``Model`` comes last.
_SUFFIXES = (
    ("ForMaskedLM", "fill-mask"),
    ("ForSequenceClassification", "text-classification"),
    ("ForTokenClassification", "token-classification"),
    ("ForQuestionAnswering", "question-answering"),
    ("ForMultipleChoice", "multiple-choice"),
    ("ForCausalLM", "text-generation"),
    ("LMHeadModel", "text-generation"),
    ("MTModel", "text2text-generation"),
    ("ForConditionalGeneration", "text2text-generation"),
    ("ForImageClassification", "image-classification"),
    ("ForImageClassificationWithTeacher", "image-classification"),
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
    ("Model", "feature-extraction"),
)


def canonical(name: str) -> str:
    """The Hub's name of a task; a name that is no alias is taken as it is, apart from case and underscores.

    Optimum's ``-with-past`` is dropped: a decoder always has its cache here.
    """
    plain = name.strip().lower().replace("_", "-").removesuffix("-with-past")
    return ALIASES.get(plain, plain)


def task_of_architectures(architectures: Sequence[str]) -> str | None:
    """The task that the model's classes were made for, by their names in config.json; None where they do not say."""
    for architecture in architectures:
        if not architecture.endswith(_PURPOSES):
            for prefix, task in _CLASSES:
                if architecture.startswith(prefix):
                    return task
        for suffix, task in _SUFFIXES:
            if architecture.endswith(suffix):
                return task
    return None
