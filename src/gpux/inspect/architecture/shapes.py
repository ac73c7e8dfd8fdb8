"""What a configuration says of a model, under one name for each fact."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gpux.inspect.architecture.experts import Experts
from gpux.inspect.architecture.heads import AttentionKind
from gpux.model.values import Value

Kind = Literal["decoder", "encoder", "encoder-decoder", "vision", "audio", "multimodal"]


@dataclass(frozen=True)
class Quantization(Value):
    """How the stored weights were made smaller."""

    method: (
        str  #: as the file has it: ``awq``, ``gptq``, ``bitsandbytes``, ``fp8``, ``mxfp4``, ``compressed-tensors`` …
    )
    bits: int | None  #: of one weight
    group_size: int | None  #: weights that share a scale; None: a row, a tensor, or not said
    form: str | None  #: what the method writes: ``nf4``, ``e4m3``, ``gemm``, ``pack-quantized`` …


@dataclass(frozen=True)
class RopeScaling(Value):
    """How rotary positions are stretched beyond the context that the model was first trained with."""

    kind: str  #: ``linear``, ``dynamic``, ``yarn``, ``longrope``, ``llama3``, ``mrope`` …
    factor: float | None
    original_length: int | None  #: tokens before stretching


@dataclass(frozen=True)
class CacheShape(Value):
    """What a decoder remembers of each token while it writes; counts of numbers, not bytes."""

    full_layers: int  #: layers that remember every token
    sliding_layers: int  #: layers that remember the last ``window`` tokens
    window: int | None
    width: int  #: numbers for each token and layer
    expanded_width: int  #: the same where latent attention (MLA) is unfolded, as transformers keeps it; else ``width``
    cross_layers: int = 0  #: layers that also remember the encoder's answer
    cross_length: int | None = None  #: tokens of that answer, where it is always the same (Whisper)
    state: int = 0  #: numbers for a sequence of any length (Mamba, convolutions)


@dataclass(frozen=True)
class ArchitectureSummary(Value):
    """A model as its configuration describes it; None is what the configuration does not tell."""

    model_type: str | None
    kind: Kind | None
    architectures: tuple[str, ...] = ()  #: class names
    hidden_size: int | None = None
    layers: int | None = None  #: of the decoder where there are two sides
    encoder_layers: int | None = None  #: where there are two sides
    decoder_layers: int | None = None
    attention_heads: int | None = None
    kv_heads: int | None = None
    attention: AttentionKind | None = None
    head_size: int | None = None
    intermediate_size: int | None = None
    vocab_size: int | None = None
    context_length: int | None = None  #: tokens, stretched positions included
    original_context_length: int | None = None  #: before stretching, where positions are stretched
    rope_scaling: RopeScaling | None = None
    sliding_window: int | None = None  #: tokens that a sliding layer sees; None where no layer slides
    sliding_layers: int | None = None  #: how many of the layers do
    experts: Experts | None = None
    tied_embeddings: bool | None = None
    image_size: int | None = None  #: pixels of a side
    patch_size: int | None = None
    cache: CacheShape | None = None  #: what decoding remembers; None for what does not decode
    dtype: str | None = None  #: of the weights: ``float32``, ``float16``, ``bfloat16`` …
    quantization: Quantization | None = None
    towers: dict[str, ArchitectureSummary] = field(default_factory=dict)  #: text, vision, audio, encoder, decoder
    assumed: tuple[str, ...] = ()  #: fields that the file leaves out, taken from the type's defaults
    notes: tuple[str, ...] = ()  #: contradictions, and what cannot be told for sure
