"""Builds the folder of a recipe: configuration, weights, tokenizer and preprocessor, as in a Hub repository."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.models.zoo_entries import SPECS
from tests.models.zoo_tokenizer_files import TOKENIZERS, save_tokenizer
from tests.models.zoo_weights import liven

AUTO = {
    "feature-extraction": "AutoModel",
    "reinforcement-learning": "AutoModel",
    "fill-mask": "AutoModelForMaskedLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "multiple-choice": "AutoModelForMultipleChoice",
    "text-generation": "AutoModelForCausalLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "image-classification": "AutoModelForImageClassification",
    "object-detection": "AutoModelForObjectDetection",
    "semantic-segmentation": "AutoModelForSemanticSegmentation",
    "depth-estimation": "AutoModelForDepthEstimation",
    "masked-im": "AutoModelForMaskedImageModeling",
    "image-to-image": "AutoModelForImageToImage",
    "keypoint-detection": "VitPoseForPoseEstimation",
    "audio-classification": "AutoModelForAudioClassification",
    "audio-frame-classification": "AutoModelForAudioFrameClassification",
    "audio-xvector": "AutoModelForAudioXVector",
    "zero-shot-image-classification": "AutoModelForZeroShotImageClassification",
    "zero-shot-object-detection": "AutoModelForZeroShotObjectDetection",
    "image-to-text": "AutoModelForVision2Seq",
}
CLASS = {  # types that the task's auto class does not support (or has two classes for)
    ("deit", "image-classification"): "DeiTForImageClassification",
    ("levit", "image-classification"): "LevitForImageClassification",
    ("perceiver", "image-classification"): "PerceiverForImageClassificationLearned",
    ("dpt", "image-segmentation"): "AutoModelForSemanticSegmentation",
    ("detr", "image-segmentation"): "DetrForSegmentation",
    ("maskformer", "image-segmentation"): "MaskFormerForInstanceSegmentation",
    ("mobilevit", "image-segmentation"): "AutoModelForSemanticSegmentation",
    ("segformer", "image-segmentation"): "AutoModelForSemanticSegmentation",
    ("clipseg", "image-segmentation"): "CLIPSegForImageSegmentation",
    ("pix2struct", "image-to-text"): "Pix2StructForConditionalGeneration",
    ("musicgen", "text-to-audio"): "MusicgenForConditionalGeneration",
    ("speecht5", "text-to-audio"): "SpeechT5ForTextToSpeech",
    ("vits", "text-to-audio"): "VitsModel",
    ("patchtst", "time-series-forecasting"): "PatchTSTForPrediction",
    ("patchtsmixer", "time-series-forecasting"): "PatchTSMixerForPrediction",
    ("colpali", "feature-extraction"): "ColPaliForRetrieval",
    ("mgp-str", "feature-extraction"): "MgpstrForSceneTextRecognition",
    ("gemma3", "text-generation"): "Gemma3ForConditionalGeneration",
    ("chinese_clip", "zero-shot-image-classification"): "ChineseCLIPModel",
    ("wav2vec2-bert", "automatic-speech-recognition"): "Wav2Vec2BertForCTC",
    ("siglip", "zero-shot-image-classification"): "SiglipModel",
}


_LABELLED = ("text-classification", "token-classification", "audio-classification", "audio-frame-classification")
_SPEAKING_TWO_PARTS = ("whisper", "speech_to_text", "moonshine")


def model_class(model_type: str, task: str) -> Any:
    """The transformers class (or auto class) of a (type, task) folder."""
    import transformers

    base, bare = model_type.split("+")[0], task.replace("-with-past", "")
    name = CLASS.get((base, bare))
    if name is None and bare == "automatic-speech-recognition":
        name = "AutoModelForSpeechSeq2Seq" if base in _SPEAKING_TWO_PARTS else "AutoModelForCTC"
    return getattr(transformers, name or AUTO[bare])


def config(model_type: str, task: str) -> Any:
    """The PretrainedConfig of a zoo entry."""
    from transformers import CONFIG_MAPPING

    recipe, base = SPECS[model_type], model_type.split("+")[0]
    if callable(recipe.config):
        return recipe.config()
    ids = TOKENIZERS[recipe.tokenizer][1] if recipe.tokenizer in TOKENIZERS else {}
    values = {**ids, **recipe.config}
    if task in _LABELLED:
        values["num_labels"] = 5
    if task == "text-classification" and values.get("pad_token_id") is None:
        values["pad_token_id"] = 0
    return CONFIG_MAPPING[base](**values)


def build(model_type: str, task: str, folder: Path) -> None:
    """Write the model ``model_type`` for ``task`` into ``folder`` (created); the same names give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe, seed = SPECS[model_type], zlib.crc32(f"{model_type}/{task}".encode())
    with _quiet_and_seeded(seed):
        made, cls = config(model_type, task), model_class(model_type, task)
        model = cls.from_config(made) if hasattr(cls, "from_config") else cls(made)
        liven(model, seed)
        model.eval().save_pretrained(folder, safe_serialization=True)
        if recipe.also:
            recipe.also(folder, seed)
    save_tokenizer(recipe.tokenizer, model_type.split("+")[0], folder)
    if recipe.processor:
        (folder / "preprocessor_config.json").write_text(json.dumps(recipe.processor, indent=1), encoding="utf-8")


@contextmanager
def _quiet_and_seeded(seed: int) -> Iterator[None]:
    import torch
    from transformers.utils import logging

    verbosity, state = logging.get_verbosity(), torch.random.get_rng_state()
    logging.set_verbosity_error()
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.random.set_rng_state(state)
        logging.set_verbosity(verbosity)
