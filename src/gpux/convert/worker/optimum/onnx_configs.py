"""OnnxConfigs for model types that Optimum lacks or describes incorrectly, and the generators of their traced inputs.

An OnnxConfig names the inputs and outputs of a graph with their dynamic axes, and the generators that make inputs for
the traced call. ``TRACED`` overrides sizes of that call.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from optimum.exporters.onnx.base import ConfigBehavior
from optimum.exporters.onnx.config import AudioOnnxConfig, TextAndVisionOnnxConfig, TextDecoderWithPositionIdsOnnxConfig
from optimum.exporters.onnx.model_configs import (
    BartOnnxConfig,
    BertOnnxConfig,
    CLIPNormalizedConfig,
    CLIPOnnxConfig,
    FalconOnnxConfig,
    LongformerOnnxConfig,
    MCTCTOnnxConfig,
    SEWDOnnxConfig,
    T5OnnxConfig,
    ViTOnnxConfig,
    WhisperOnnxConfig,
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
    """KV caches of decoders whose number or size of key-value heads is set in the config."""

    def generate(
        self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
    ) -> Any:
        """For each layer a pair of (batch, key-value heads, tokens, head size)."""
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
    """falcon: one head with multi-query attention, else all heads, also with the new decoder architecture."""

    def generate(
        self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
    ) -> Any:
        """For each layer a pair of (batch, heads, tokens, head size)."""
        config = self.normalized_config
        one = config.multi_query and not config.new_decoder_architecture
        shape = (self.batch_size, 1 if one else self.num_attention_heads, self.sequence_length,
                 self.hidden_size // self.num_attention_heads)  # fmt: skip
        return [(_floats(self, shape, framework, float_dtype), _floats(self, shape, framework, float_dtype))
                for _ in range(self.num_layers)]  # fmt: skip


class LongformerText(LongformerDummyTextInputGenerator):
    """longformer usually has one token type, and must be traced with some global attention."""

    def generate(
        self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
    ) -> Any:
        """The first token attends globally, as in every head except question answering."""
        values = super().generate(input_name, framework, int_dtype, float_dtype)
        if input_name == "token_type_ids":
            return values % max(1, self.normalized_config.type_vocab_size)
        if input_name == "global_attention_mask":
            values[..., 0] = 1
        return values


class CroppedImage(DummyVisionInputGenerator):
    """dinov2: an image of the size that the processor crops to, or that the config has."""

    def __init__(self, task: str, normalized_config: Any, **kwargs: Any) -> None:
        super().__init__(task, normalized_config, **kwargs)
        size = getattr(normalized_config.config, "image_size", None)
        if isinstance(size, int):
            self.height = self.width = size


class Filterbanks(DummyInputGenerator):
    """Audio features, (batch, frames, features), with a mask over the frames."""

    SUPPORTED_INPUT_NAMES = ("input_features", "attention_mask")
    FRAMES = 64

    def __init__(self, task: str, normalized_config: Any, batch_size: int = 2, **kwargs: Any) -> None:
        self.batch_size = batch_size
        self.width = normalized_config.config.feature_projection_input_dim

    def generate(
        self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
    ) -> Any:
        """Standard normal features, no frame masked."""
        if input_name == "attention_mask":
            return self.constant_tensor((self.batch_size, self.FRAMES), 1, dtype=torch.int64, framework=framework)
        return _floats(self, (self.batch_size, self.FRAMES, self.width), framework, float_dtype)


class Spectrogram(DummyInputGenerator):
    """clap's spectrogram, (batch, 1, frames, mel bins), of fixed size."""

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
    """siglip2's images: flattened patches, their mask, and the rows and columns of patches."""

    SUPPORTED_INPUT_NAMES = ("pixel_values", "pixel_attention_mask", "spatial_shapes")

    def __init__(self, task: str, normalized_config: Any, batch_size: int = 2, **kwargs: Any) -> None:
        vision = normalized_config.config.vision_config
        self.batch_size = batch_size
        self.side = int(vision.num_patches**0.5)
        self.width = vision.num_channels * vision.patch_size**2

    def generate(
        self, input_name: str, framework: str = "pt", int_dtype: str = "int64", float_dtype: str = "fp32"
    ) -> Any:
        """A square of patches, none masked."""
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
    """A decoder with grouped-query attention, as llama."""

    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, KeyValues)
    DUMMY_PKV_GENERATOR_CLASS = KeyValues
    NORMALIZED_CONFIG_CLASS = NormalizedTextConfigWithGQA


class Ungrouped(TextDecoderWithPositionIdsOnnxConfig):
    """A decoder with multi-head attention."""

    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, KeyValues)
    DUMMY_PKV_GENERATOR_CLASS = KeyValues
    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig


class Falcon(FalconOnnxConfig):
    """falcon, with the cache of its new architecture sized as in transformers."""

    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, FalconKeyValues)
    DUMMY_PKV_GENERATOR_CLASS = FalconKeyValues


class Longformer(LongformerOnnxConfig):
    """longformer, called as in a pipeline: the model itself decides which tokens attend globally.

    Question answering and multiple choice look for separator tokens, which a trace cannot follow; for these tasks the
    global attention mask is an input.
    """

    DUMMY_INPUT_GENERATOR_CLASSES = (LongformerText,)

    @property
    def inputs(self) -> Axes:
        """Tokens and their mask; token types if there are several."""
        axes: Axes = super().inputs
        if self.task not in ("question-answering", "multiple-choice"):
            del axes["global_attention_mask"]
        if self._config.type_vocab_size < 2:
            del axes["token_type_ids"]
        return axes


class FNet(BertOnnxConfig):
    """fnet, which mixes all tokens, padding included, and has no attention mask."""

    @property
    def inputs(self) -> Axes:
        """Tokens and their types."""
        axes: Axes = super().inputs
        del axes["attention_mask"]
        return axes


class Funnel(BertOnnxConfig):
    """funnel, whose config has other names for the sizes."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig.with_args(hidden_size="d_model", num_attention_heads="n_head")


class XLNet(BertOnnxConfig):
    """xlnet, whose config has other names for the sizes."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig.with_args(
        hidden_size="d_model", num_attention_heads="n_head", num_layers="n_layer"
    )


class LongT5(T5OnnxConfig):
    """longt5, traced at a length that is not a multiple of its block, so that padding the last block is traced."""

    #: A prime above the default block of 128 tokens.
    TRACED = {"sequence_length": 197}  # noqa: RUF012 - Optimum's own constants are written so


class LED(BartOnnxConfig):
    """led, an encoder-decoder whose encoder has sliding-window attention."""


_TOKENS = {0: "text_batch_size", 1: "sequence_length"}


class Cropped(ViTOnnxConfig):
    """dinov2, with and without registers, traced at the size that its processor crops to."""

    DUMMY_INPUT_GENERATOR_CLASSES = (CroppedImage,)


class Filterbank(AudioOnnxConfig):
    """wav2vec2-bert, whose input is filter banks instead of a waveform."""

    NORMALIZED_CONFIG_CLASS = NormalizedConfig
    DUMMY_INPUT_GENERATOR_CLASSES = (Filterbanks,)

    @property
    def inputs(self) -> Axes:
        """Features, (batch, frames, features), and the mask of the frames."""
        frames = {0: "batch_size", 1: "sequence_length"}
        return {"input_features": frames, "attention_mask": frames}


class ShortSound(MCTCTOnnxConfig):
    """mctct, traced with short audio: the memory of its positions grows with the square of the frames."""

    TRACED = {"audio_sequence_length": 480}  # noqa: RUF012 - Optimum's own constants are written so


class SqueezedSound(SEWDOnnxConfig):
    """sew and sew-d join frames and pad the remainder: only a trace with a remainder includes the padding."""

    @property
    def TRACED(self) -> dict[str, int]:  # noqa: N802 - as Optimum's own constants
        """A number of samples whose frames are not a multiple of the squeeze factor."""
        samples = DEFAULT_DUMMY_SHAPES["audio_sequence_length"]
        while frames(samples, self._config) % self._config.squeeze_factor == 0:
            samples += math.prod(self._config.conv_stride)
        return {"audio_sequence_length": samples}


def frames(samples: int, config: Any) -> int:
    """The number of frames after the model's convolutions."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


class Whisper(WhisperOnnxConfig):
    """whisper, whose decoder also returns the weights of its cross-attention, from which words get their times.

    They are computed in any case; onnxruntime copies them only if a run requests them. transformers returns them with
    the attention implementation ``eager`` alone.
    """

    @property
    def TRACED(self) -> dict[str, int]:  # noqa: N802 - as Optimum's own constants
        """The frames that the encoder reads: 3000 for windows of 30 seconds. Its convolutions halve their number."""
        return {"nb_max_frames": 2 * self._config.max_source_positions}

    @property
    def values_override(self) -> dict[str, Any] | None:
        """Attributes of the model's config during the export."""
        base: dict[str, Any] = super().values_override or {}
        if self.task == "audio-classification":
            return base
        return {**base, "_attn_implementation": "eager", "output_attentions": True}

    @property
    def outputs(self) -> Axes:
        """With ``cross_attentions.N`` of each layer of the decoder, (batch, heads, tokens, frames)."""
        axes: Axes = super().outputs
        if self._behavior is ConfigBehavior.DECODER:
            shape = {0: "batch_size", 2: "decoder_sequence_length", 3: "encoder_sequence_length"}
            axes |= {f"cross_attentions.{layer}": shape for layer in range(self._config.decoder_layers)}
        return axes


class Clap(CLIPOnnxConfig):
    """clap: embeddings of texts and of audio in one space."""

    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, Spectrogram)

    @property
    def inputs(self) -> Axes:
        """Tokens with their mask, and a spectrogram of fixed size, (batch, 1, frames, mel bins)."""
        return {"input_ids": _TOKENS, "attention_mask": _TOKENS, "input_features": {0: "audio_batch_size"}}

    @property
    def outputs(self) -> Axes:
        """Similarities in both directions, and the embeddings."""
        return {
            "logits_per_audio": {0: "audio_batch_size", 1: "text_batch_size"},
            "logits_per_text": {0: "text_batch_size", 1: "audio_batch_size"},
            "text_embeds": {0: "text_batch_size"},
            "audio_embeds": {0: "audio_batch_size"},
        }


class MetaClip(CLIPOnnxConfig):
    """metaclip_2, as clip: Optimum's own OnnxConfig has outputs without names."""

    VARIANTS = {"monolith": "Both towers in one graph."}  # noqa: RUF012 - Optimum's own constants are written so
    DEFAULT_VARIANT = "monolith"

    def __init__(self, config: Any, task: str = "feature-extraction", variant: str = "monolith", **others: Any) -> None:
        super().__init__(config, task=task, **others)
        self.variant = variant


class Siglip2(CLIPOnnxConfig):
    """siglip2: images of any aspect ratio as patches, with a mask."""

    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, Patches)

    @property
    def inputs(self) -> Axes:
        """Tokens; flattened patches, (batch, patches, values), their mask, and their rows and columns."""
        patches = {0: "image_batch_size", 1: "max_num_patches"}
        return {
            "input_ids": _TOKENS,
            "pixel_values": patches,
            "pixel_attention_mask": patches,
            "spatial_shapes": {0: "image_batch_size"},
            "attention_mask": _TOKENS,
        }


class ClipSeg(TextAndVisionOnnxConfig):
    """clipseg: a segmentation mask for each image and its text."""

    NORMALIZED_CONFIG_CLASS = CLIPNormalizedConfig

    @property
    def inputs(self) -> Axes:
        """One text for each image."""
        tokens = {0: "batch_size", 1: "sequence_length"}
        return {"input_ids": tokens, "pixel_values": {0: "batch_size"}, "attention_mask": tokens}

    @property
    def outputs(self) -> Axes:
        """Logits of the mask, (batch, height, width)."""
        return {"logits": {0: "batch_size"}}


class Blip(TextAndVisionOnnxConfig):
    """blip as one graph without a cache: the image and the caption so far."""

    NORMALIZED_CONFIG_CLASS = CLIPNormalizedConfig
    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, DummyVisionInputGenerator)

    @property
    def inputs(self) -> Axes:
        """One caption for each image."""
        tokens = {0: "batch_size", 1: "sequence_length"}
        return {"pixel_values": {0: "batch_size"}, "input_ids": tokens, "attention_mask": tokens}

    @property
    def outputs(self) -> Axes:
        """Logits, (batch, tokens, vocabulary)."""
        return {"logits": {0: "batch_size", 1: "sequence_length"}}
