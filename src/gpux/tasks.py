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
    "speech-to-text": "automatic-speech-recognition",
    "asr": "automatic-speech-recognition",
    "text-to-audio": "text-to-speech",
}

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
    ("ForImageClassification", "image-classification"),
    ("ForObjectDetection", "object-detection"),
    ("ForSemanticSegmentation", "image-segmentation"),
    ("ForDepthEstimation", "depth-estimation"),
    ("ForAudioClassification", "audio-classification"),
    ("ForCTC", "automatic-speech-recognition"),
    ("Model", "feature-extraction"),
)


def canonical(name: str) -> str:
    """The Hub's name of a task; a name that is no alias is taken as it is, apart from case and underscores."""
    plain = name.strip().lower().replace("_", "-")
    return ALIASES.get(plain, plain)


def task_of_architectures(architectures: Sequence[str]) -> str | None:
    """The task that the model's classes were made for, by their names in config.json; None where they do not say."""
    for architecture in architectures:
        for suffix, task in _SUFFIXES:
            if architecture.endswith(suffix):
                return task
    return None
