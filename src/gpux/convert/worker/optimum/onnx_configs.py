"""Inputs of traced calls that Optimum's own generators make wrong, or do not make.

---
Descriptions of text models that differ from a relative's in an input or a shape.

---
Descriptions of models of images and sound that Optimum has no description of."""

from __future__ import annotations

import math
from typing import Any

import torch
from optimum.exporters.onnx.config import AudioOnnxConfig, TextAndVisionOnnxConfig, TextDecoderWithPositionIdsOnnxConfig
from optimum.exporters.onnx.model_configs import (
    BartOnnxConfig,
    BertOnnxConfig,
    CLIPNormalizedConfig,
    CLIPOnnxConfig,
    DistilBertOnnxConfig,
    FalconOnnxConfig,
    LongformerOnnxConfig,
    MCTCTOnnxConfig,
    SEWDOnnxConfig,
    T5OnnxConfig,
    ViTOnnxConfig,
)
from optimum.utils import (
    DEFAULT_DUMMY_SHAPES,
    DummyPastKeyValuesGenerator,
    DummyTextInputGenerator,
    DummyVisionInputGenerator,
    NormalizedConfig,
    NormalizedTextConfig,
)
from optimum.utils.input_generators import DummyInputGenerator, LongformerDummyTextInputGenerator
from optimum.utils.normalized_config import NormalizedTextConfigWithGQA


class KeyValues(DummyPastKeyValuesGenerator):
    """Caches of a decoder whose key-value heads or their size are no quotient of the config's numbers."""

    def generate(
        self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
    ) -> Any:
        """Per layer a pair of (batch, key-value heads, tokens, size of a head)."""
        config = self.normalized_config
        heads = getattr(config, "num_key_value_heads", None) or self.num_attention_heads
        size = getattr(config, "head_dim", None) or self.hidden_size // self.num_attention_heads
        shape = (self.batch_size, heads, self.sequence_length, size)
        return [(_floats(self, shape, framework, float_dtype), _floats(self, shape, framework, float_dtype))
                for _ in range(self.num_layers)]  # fmt: skip

    def __init__(self, task: str, normalized_config: Any, **kwargs: Any) -> None:
        super().__init__(task, normalized_config, **kwargs)
        self.normalized_config = normalized_config


class FalconKeyValues(KeyValues):
    """falcon: one head in all, or every head: with the new architecture, too, the cache has them all."""

    def generate(
        self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
    ) -> Any:
        """Per layer a pair of (batch, heads of the cache, tokens, size of a head)."""
        config = self.normalized_config
        one = config.multi_query and not config.new_decoder_architecture
        shape = (self.batch_size, 1 if one else self.num_attention_heads, self.sequence_length,
                 self.hidden_size // self.num_attention_heads)  # fmt: skip
        return [(_floats(self, shape, framework, float_dtype), _floats(self, shape, framework, float_dtype))
                for _ in range(self.num_layers)]  # fmt: skip


class LongformerText(LongformerDummyTextInputGenerator):
    """longformer has one type of tokens as a rule, and its global attention must be traced with some."""

    def generate(
        self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
    ) -> Any:
        """The first token attends globally, as every head but the one for questions has it."""
        made = super().generate(input_name, framework, int_dtype, float_dtype)
        if input_name == "token_type_ids":
            return made % max(1, self.normalized_config.type_vocab_size)
        if input_name == "global_attention_mask":
            made[..., 0] = 1
        return made


class CroppedImage(DummyVisionInputGenerator):
    """dinov2: an image of the size that the processor crops to, or that the model was configured for."""

    def __init__(self, task: str, normalized_config: Any, **kwargs: Any) -> None:
        super().__init__(task, normalized_config, **kwargs)
        size = getattr(normalized_config.config, "image_size", None)
        if isinstance(size, int):
            self.height = self.width = size


class Filterbanks(DummyInputGenerator):
    """Features of sound, (batch, frames, features), with a mask over the frames."""

    SUPPORTED_INPUT_NAMES = ("input_features", "attention_mask")
    FRAMES = 64

    def __init__(self, task: str, normalized_config: Any, batch_size: int = 2, **kwargs: Any) -> None:
        self.batch_size = batch_size
        self.width = normalized_config.config.feature_projection_input_dim

    def generate(
        self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
    ) -> Any:
        """Standard normal features; every frame counts."""
        if input_name == "attention_mask":
            return self.constant_tensor((self.batch_size, self.FRAMES), 1, dtype=torch.int64, framework=framework)
        return _floats(self, (self.batch_size, self.FRAMES, self.width), framework, float_dtype)


class Spectrogram(DummyInputGenerator):
    """clap's view of sound, (batch, 1, frames, mel bins): always as large as the model's image."""

    SUPPORTED_INPUT_NAMES = ("input_features",)

    def __init__(self, task: str, normalized_config: Any, batch_size: int = 2, **kwargs: Any) -> None:
        audio = normalized_config.config.audio_config
        ratio = audio.spec_size // audio.num_mel_bins
        self.shape = (batch_size, 1, audio.spec_size * ratio, audio.num_mel_bins)

    def generate(
        self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
    ) -> Any:
        """Standard normal."""
        return _floats(self, self.shape, framework, float_dtype)


class Patches(DummyInputGenerator):
    """siglip2's images: flattened patches, which of them count, and how many there are each way."""

    SUPPORTED_INPUT_NAMES = ("pixel_values", "pixel_attention_mask", "spatial_shapes")

    def __init__(self, task: str, normalized_config: Any, batch_size: int = 2, **kwargs: Any) -> None:
        vision = normalized_config.config.vision_config
        self.batch_size = batch_size
        self.side = int(vision.num_patches**0.5)
        self.width = vision.num_channels * vision.patch_size**2

    def generate(
        self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
    ) -> Any:
        """A square of patches, all of them of the image."""
        count = self.side**2
        if input_name == "spatial_shapes":
            return self.constant_tensor((self.batch_size, 2), self.side, dtype=torch.int64, framework=framework)
        if input_name == "pixel_attention_mask":
            return self.constant_tensor((self.batch_size, count), 1, dtype=torch.int64, framework=framework)
        return _floats(self, (self.batch_size, count, self.width), framework, float_dtype)


def _floats(generator: Any, shape: tuple[int, ...], framework: str, dtype: str) -> Any:
    return generator.random_float_tensor(shape, framework=framework, dtype=dtype)


Axes = dict[str, dict[int, str]]


class Grouped(TextDecoderWithPositionIdsOnnxConfig):
    """A decoder in llama's manner: fewer heads in the cache than in the attention, sized by the config."""

    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, KeyValues)
    DUMMY_PKV_GENERATOR_CLASS = KeyValues
    NORMALIZED_CONFIG_CLASS = NormalizedTextConfigWithGQA


class Ungrouped(TextDecoderWithPositionIdsOnnxConfig):
    """A decoder with as many heads in the cache as in the attention."""

    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, KeyValues)
    DUMMY_PKV_GENERATOR_CLASS = KeyValues
    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig


class Falcon(FalconOnnxConfig):
    """falcon, its new architecture's cache sized as transformers fills it."""

    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, FalconKeyValues)
    DUMMY_PKV_GENERATOR_CLASS = FalconKeyValues


class Longformer(LongformerOnnxConfig):
    """longformer, asked as a pipeline asks it: the model itself knows where a task attends globally.

    Answers to questions and choices between several look for separators in a way that a trace cannot follow; there the
    places of global attention are an input.
    """

    DUMMY_INPUT_GENERATOR_CLASSES = (LongformerText,)

    @property
    def inputs(self) -> Axes:
        """Tokens and their mask; token types where there are several."""
        axes: Axes = super().inputs
        if self.task not in ("question-answering", "multiple-choice"):
            del axes["global_attention_mask"]
        if self._config.type_vocab_size < 2:
            del axes["token_type_ids"]
        return axes


class FNet(BertOnnxConfig):
    """fnet, which mixes padding in with everything else and takes no mask."""

    @property
    def inputs(self) -> Axes:
        """Tokens and their types."""
        axes: Axes = super().inputs
        del axes["attention_mask"]
        return axes


class Funnel(BertOnnxConfig):
    """funnel, its width under another name."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig.with_args(hidden_size="d_model", num_attention_heads="n_head")


class XLNet(DistilBertOnnxConfig):
    """xlnet: no token types are asked for, which counts as the first of them everywhere."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig.with_args(
        hidden_size="d_model", num_attention_heads="n_head", num_layers="n_layer"
    )


class LongT5(T5OnnxConfig):
    """longt5, traced at a length that fills no block, so that the trace fills the last one up."""

    #: A prime, beyond the default block of 128 tokens.
    TRACED = {"sequence_length": 197}  # noqa: RUF012 - Optimum's own constants are written so


class LED(BartOnnxConfig):
    """led, an encoder-decoder whose encoder attends in windows."""


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
