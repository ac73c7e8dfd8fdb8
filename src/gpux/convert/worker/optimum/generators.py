"""Inputs of traced calls that Optimum's own generators make wrong, or do not make."""

from __future__ import annotations

from typing import Any

import torch
from optimum.utils import (
    DummyPastKeyValuesGenerator,
    DummyVisionInputGenerator,
)
from optimum.utils.input_generators import DummyInputGenerator, LongformerDummyTextInputGenerator


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
