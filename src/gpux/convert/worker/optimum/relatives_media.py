"""Descriptions of models of images and sound that Optimum has no description of."""

from __future__ import annotations

import math
from typing import Any

from optimum.exporters.onnx.config import AudioOnnxConfig, TextAndVisionOnnxConfig
from optimum.exporters.onnx.model_configs import (
    CLIPNormalizedConfig,
    CLIPOnnxConfig,
    MCTCTOnnxConfig,
    SEWDOnnxConfig,
    ViTOnnxConfig,
)
from optimum.utils import DEFAULT_DUMMY_SHAPES, DummyTextInputGenerator, DummyVisionInputGenerator, NormalizedConfig

from gpux.convert.worker.optimum.generators import CroppedImage, Filterbanks, Patches, Spectrogram

Axes = dict[str, dict[int, str]]
_TOKENS = {0: "text_batch_size", 1: "sequence_length"}


class Cropped(ViTOnnxConfig):
    """dinov2 and the same with registers, traced at the size that its processor crops to."""

    DUMMY_INPUT_GENERATOR_CLASSES = (CroppedImage,)


class Filterbank(AudioOnnxConfig):
    """wav2vec2-bert, which hears filter banks and not waves."""

    NORMALIZED_CONFIG_CLASS = NormalizedConfig
    DUMMY_INPUT_GENERATOR_CLASSES = (Filterbanks,)

    @property
    def inputs(self) -> Axes:
        """Features, (batch, frames, features), and which frames count."""
        frames = {0: "batch_size", 1: "sequence_length"}
        return {"input_features": frames, "attention_mask": frames}


class ShortSound(MCTCTOnnxConfig):
    """mctct, traced with less sound: its positions take the square of the frames, many times over."""

    TRACED = {"audio_sequence_length": 480}  # noqa: RUF012 - Optimum's own constants are written so


class SqueezedSound(SEWDOnnxConfig):
    """sew and sew-d join frames, and pad what is left over: only a trace with something left over has the padding."""

    @property
    def TRACED(self) -> dict[str, int]:  # noqa: N802 - as Optimum's own constants
        """Samples that make a number of frames which the model cannot divide."""
        samples = DEFAULT_DUMMY_SHAPES["audio_sequence_length"]
        while frames(samples, self._config) % self._config.squeeze_factor == 0:
            samples += math.prod(self._config.conv_stride)
        return {"audio_sequence_length": samples}


def frames(samples: int, config: Any) -> int:
    """Frames of a wave behind the model's convolutions."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


class Clap(CLIPOnnxConfig):
    """clap: sentences and sounds in one space."""

    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, Spectrogram)

    @property
    def inputs(self) -> Axes:
        """Tokens with their mask, and a spectrogram of fixed size, (batch, 1, frames, mel bins)."""
        return {"input_ids": _TOKENS, "attention_mask": _TOKENS, "input_features": {0: "audio_batch_size"}}

    @property
    def outputs(self) -> Axes:
        """Similarities both ways, and the two kinds of vectors."""
        return {
            "logits_per_audio": {0: "audio_batch_size", 1: "text_batch_size"},
            "logits_per_text": {0: "text_batch_size", 1: "audio_batch_size"},
            "text_embeds": {0: "text_batch_size"},
            "audio_embeds": {0: "audio_batch_size"},
        }


class MetaClip(CLIPOnnxConfig):
    """metaclip_2, described as clip is; Optimum's own description lets outputs through that have no name."""

    VARIANTS = {"monolith": "Both towers in one graph."}  # noqa: RUF012 - Optimum's own constants are written so
    DEFAULT_VARIANT = "monolith"

    def __init__(self, config: Any, task: str = "feature-extraction", variant: str = "monolith", **others: Any) -> None:
        super().__init__(config, task=task, **others)
        self.variant = variant


class Siglip2(CLIPOnnxConfig):
    """siglip2: images as patches of their own shape, with a mask."""

    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, Patches)

    @property
    def inputs(self) -> Axes:
        """Tokens; flattened patches, (batch, patches, values), their mask and the shape that they came from."""
        patches = {0: "image_batch_size", 1: "max_num_patches"}
        return {
            "input_ids": _TOKENS,
            "pixel_values": patches,
            "pixel_attention_mask": patches,
            "spatial_shapes": {0: "image_batch_size"},
            "attention_mask": _TOKENS,
        }


class ClipSeg(TextAndVisionOnnxConfig):
    """clipseg: a mask of what a sentence names, for each image and its sentence."""

    NORMALIZED_CONFIG_CLASS = CLIPNormalizedConfig

    @property
    def inputs(self) -> Axes:
        """As many sentences as images."""
        tokens = {0: "batch_size", 1: "sequence_length"}
        return {"input_ids": tokens, "pixel_values": {0: "batch_size"}, "attention_mask": tokens}

    @property
    def outputs(self) -> Axes:
        """Logits of the mask, (batch, height, width)."""
        return {"logits": {0: "batch_size"}}


class Blip(TextAndVisionOnnxConfig):
    """blip as one graph: the image and the caption so far, without a cache."""

    NORMALIZED_CONFIG_CLASS = CLIPNormalizedConfig
    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, DummyVisionInputGenerator)

    @property
    def inputs(self) -> Axes:
        """As many captions as images."""
        tokens = {0: "batch_size", 1: "sequence_length"}
        return {"pixel_values": {0: "batch_size"}, "input_ids": tokens, "attention_mask": tokens}

    @property
    def outputs(self) -> Axes:
        """Logits of the next token behind each, (batch, tokens, vocabulary)."""
        return {"logits": {0: "batch_size", 1: "sequence_length"}}
