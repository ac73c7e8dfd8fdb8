"""The summary of a ``config.json``: kind of model, sizes, attention, context, experts, cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from gpux.inspect.architecture.attention import (
    CONVOLUTION,
    STATE_SPACE,
    AttentionKind,
    Heads,
    RopeScaling,
    context_lengths,
    find_heads,
    find_scaling,
    sliding,
    usable_positions,
)
from gpux.inspect.architecture.consistency import contradictions
from gpux.inspect.architecture.decoders import FORMS, Experts, find_experts, inner_size
from gpux.inspect.architecture.encoders import AUDIO, ENCODERS, VISION
from gpux.inspect.architecture.fields import LARGEST, MOST_LAYERS, Fields, MissingFieldError
from gpux.inspect.architecture.multimodal import MULTIMODAL
from gpux.inspect.architecture.quantization import Quantization, find_dtype, find_quantization
from gpux.inspect.architecture.recurrent import RECURRENT, state_numbers
from gpux.inspect.architecture.seq2seq import ENCODER_DECODERS
from gpux.model.values import Value

Kind = Literal["decoder", "encoder", "encoder-decoder", "vision", "audio", "multimodal"]


@dataclass(frozen=True)
class CacheShape(Value):
    """The size of a decoder's KV cache, in values, not bytes."""

    full_layers: int  #: layers that cache every token
    sliding_layers: int  #: layers that cache the last ``window`` tokens
    window: int | None
    width: int  #: values per token and layer
    expanded_width: (
        int  #: the same if latent attention (MLA) caches expanded keys and values, as transformers does; else ``width``
    )
    cross_layers: int = 0  #: layers that also cache the encoder's output
    cross_length: int | None = None  #: length of that output, if it is fixed (Whisper)
    state: int = 0  #: recurrent state of a sequence of any length (Mamba, convolutions)


@dataclass(frozen=True)
class ArchitectureSummary(Value):
    """The architecture that a configuration describes; None means not stated."""

    model_type: str | None
    kind: Kind | None
    architectures: tuple[str, ...] = ()  #: class names
    hidden_size: int | None = None
    layers: int | None = None  #: of the decoder, in an encoder-decoder model
    encoder_layers: int | None = None  #: of an encoder-decoder model
    decoder_layers: int | None = None
    attention_heads: int | None = None
    kv_heads: int | None = None
    attention: AttentionKind | None = None
    head_size: int | None = None
    intermediate_size: int | None = None
    vocab_size: int | None = None
    context_length: int | None = None  #: tokens, after rotary scaling
    original_context_length: int | None = None  #: before rotary scaling, if there is any
    rope_scaling: RopeScaling | None = None
    sliding_window: int | None = None  #: tokens; None if no layer has a sliding window
    sliding_layers: int | None = None  #: layers with a sliding window
    experts: Experts | None = None
    tied_embeddings: bool | None = None
    image_size: int | None = None  #: pixels of a side
    patch_size: int | None = None
    cache: CacheShape | None = None  #: KV cache; None for a model without a decoder
    dtype: str | None = None  #: of the weights: ``float32``, ``float16``, ``bfloat16`` …
    quantization: Quantization | None = None
    towers: dict[str, ArchitectureSummary] = field(default_factory=dict)  #: text, vision, audio, encoder, decoder
    assumed: tuple[str, ...] = ()  #: omitted fields, taken from the defaults of the type
    notes: tuple[str, ...] = ()  #: contradictions and ambiguities


_DEEPEST = 3  #: towers within towers
_PARTS = ("text", "vision", "audio", "encoder", "decoder")


def summarize(config: Mapping[str, Any]) -> ArchitectureSummary:
    """Summarize a configuration, whatever naming convention of the Hub it uses.

    Never raises for any configuration: an invalid value becomes None, with an entry in ``notes``. The facts of a
    multimodal model are those of its text part; each part is in ``towers``.
    """
    return _summarize(Fields(config), 0)


def _summarize(fields: Fields, depth: int) -> ArchitectureSummary:
    towers = _towers(fields, depth)
    kind = find_kind(fields)
    text = fields.section("text") if kind == "multimodal" else None
    if text is None and kind == "encoder-decoder":
        text = fields.section("decoder")
    if text is None:
        return replace(_facts(fields, kind), towers=towers)
    return _of_part(fields, text, kind, towers)


def _towers(fields: Fields, depth: int) -> dict[str, ArchitectureSummary]:
    if depth >= _DEEPEST:
        return {}
    sections = {part: fields.section(part) for part in _PARTS}
    return {part: _summarize(found, depth + 1) for part, found in sections.items() if found is not None}


def _of_part(
    whole: Fields, part: Fields, kind: Kind | None, towers: dict[str, ArchitectureSummary]
) -> ArchitectureSummary:
    """The facts of the text part, with name, precision and notes of the whole model."""
    facts = _facts(part, "decoder" if part.model_type in FORMS else find_kind(part))
    own = _facts(whole, kind)
    if kind == "encoder-decoder":
        encoder, decoder = (towers[side].layers if side in towers else None for side in ("encoder", "decoder"))
        facts = replace(facts, encoder_layers=encoder, decoder_layers=decoder)
    return replace(
        facts,
        model_type=whole.model_type,
        kind=kind,
        architectures=whole.architectures,
        dtype=own.dtype or facts.dtype,
        quantization=own.quantization or facts.quantization,
        towers=towers,
        notes=own.notes + facts.notes,
    )


def _facts(fields: Fields, kind: Kind | None) -> ArchitectureSummary:
    heads, layers = find_heads(fields), find_layers(fields, kind)
    scaling = find_scaling(fields)
    context, original, doubt = context_lengths(fields, scaling)
    context = usable_positions(fields, context)
    window, sliding_layers = sliding(fields, layers, context)
    encoder, decoder = _sides(fields, kind, layers)
    notes = [*contradictions(fields, heads, layers), *([doubt] if doubt else []), *_ahead(fields)]
    return ArchitectureSummary(
        model_type=fields.model_type,
        kind=kind,
        architectures=fields.architectures,
        hidden_size=_hidden(fields),
        layers=layers,
        encoder_layers=encoder,
        decoder_layers=decoder,
        attention_heads=heads.count,
        kv_heads=heads.kv,
        attention=heads.kind,
        head_size=heads.size,
        intermediate_size=_inner(fields),
        vocab_size=fields.size("vocab"),
        context_length=context,
        original_context_length=original,
        rope_scaling=scaling,
        sliding_window=window,
        sliding_layers=sliding_layers,
        experts=find_experts(fields, layers) if layers is not None else None,
        tied_embeddings=_tied(fields, kind),
        image_size=fields.size("image_size"),
        patch_size=fields.size("patch_size"),
        cache=_cache(fields, kind, heads, layers, window, sliding_layers, decoder),
        dtype=find_dtype(fields),
        quantization=find_quantization(fields),
        assumed=tuple(sorted(fields.assumed)),
        notes=tuple(notes),
    )


def find_layers(fields: Fields, kind: Kind | None) -> int | None:
    """Number of layers: of the decoder in an encoder-decoder model, of all stages in a model with stages."""
    if kind == "encoder-decoder" and (found := fields.size("decoder_layers")) is not None:
        return found
    stages = fields.counts("depths")
    if 0 < sum(stages) <= MOST_LAYERS:
        return sum(stages)
    return fields.size("layers") or fields.size("encoder_layers")


def _sides(fields: Fields, kind: Kind | None, layers: int | None) -> tuple[int | None, int | None]:
    if kind != "encoder-decoder":
        return None, None
    return fields.size("encoder_layers") or fields.size("layers"), fields.size("decoder_layers") or layers


def _hidden(fields: Fields) -> int | None:
    if fields.model_type == "qwen2_vl" and (width := fields.size("embed_dim")) is not None:
        return width  # ``hidden_size`` of its vision encoder is the output width
    stages = fields.counts("hidden_sizes")
    return fields.size("hidden") or (stages[-1] or None if stages else None)


def _inner(fields: Fields) -> int | None:
    form, hidden = FORMS.get(fields.model_type or ""), fields.size("hidden")
    if form is None or hidden is None:
        return fields.size("inner")
    try:
        return inner_size(fields, form, hidden)
    except MissingFieldError:
        return None


def _tied(fields: Fields, kind: Kind | None) -> bool | None:
    stated = fields.raw("tie_word_embeddings")
    if isinstance(stated, bool):
        return stated
    return True if kind in ("decoder", "encoder", "encoder-decoder") and fields.defaults else None


def _ahead(fields: Fields) -> list[str]:
    count = fields.size("num_nextn_predict_layers")
    if not count:
        return []
    return [f"the files contain {count} more layer(s) for multi-token prediction, which the counts exclude"]


def _cache(
    fields: Fields,
    kind: Kind | None,
    heads: Heads,
    layers: int | None,
    window: int | None,
    sliding_layers: int | None,
    decoder: int | None,
) -> CacheShape | None:
    if kind not in ("decoder", "encoder-decoder") or layers is None:
        return None
    width, expanded = _widths(fields, heads)
    if width is None or expanded is None:
        return None
    attending, state = _cached_layers(fields, layers)
    slides = min(attending, layers if sliding_layers is None else sliding_layers) if window else 0
    cross = (decoder or layers) if kind == "encoder-decoder" else 0
    length = fields.size("max_source_positions") if fields.model_type == "whisper" else None
    return CacheShape(attending - slides, slides, window, width, expanded, cross, length, state)


def _widths(fields: Fields, heads: Heads) -> tuple[int | None, int | None]:
    """Cached values per token and layer: (as cached, with latent attention expanded)."""
    if heads.kind == "none":
        return 0, 0
    if heads.kv is None or heads.size is None or heads.value_size is None:
        return None, None
    pairs = heads.kv * (heads.size + heads.value_size)
    if pairs > LARGEST:
        return None, None
    if heads.kind == "MLA":
        return fields.need("kv_lora_rank") + (fields.count("qk_rope_head_dim") or 0), pairs
    return pairs, pairs


def _cached_layers(fields: Fields, layers: int) -> tuple[int, int]:
    """Returns (attention layers, values in the state of the recurrent layers)."""
    rule = RECURRENT.get(fields.model_type or "")
    hidden = fields.size("hidden")
    if rule is None or hidden is None:
        return layers, 0
    try:
        attending = rule(fields, layers)
        return attending, (layers - attending) * state_numbers(fields, hidden)
    except MissingFieldError:
        return layers, 0


_AUDIO = frozenset(AUDIO) | {"wavlm", "unispeech", "unispeech-sat", "sew", "sew-d", "wav2vec2-conformer", "clap_audio"}
_AUDIO |= {"wav2vec2-bert", "data2vec-audio", "audio-spectrogram-transformer", "encodec", "mimi", "univnet"}
_BY_TYPE: dict[str, Kind] = {
    **dict.fromkeys(ENCODERS, "encoder"),
    **dict.fromkeys(VISION, "vision"),
    **dict.fromkeys(CONVOLUTION, "vision"),
    **dict.fromkeys(FORMS, "decoder"),
    **dict.fromkeys(STATE_SPACE, "decoder"),
    **dict.fromkeys(ENCODER_DECODERS, "encoder-decoder"),
    **dict.fromkeys(MULTIMODAL, "multimodal"),
    **dict.fromkeys(_AUDIO, "audio"),
}
#: Endings of class names, in order of precedence.
_BY_CLASS: tuple[tuple[str, Kind], ...] = (
    ("EncoderModel", "encoder"),
    ("ForCTC", "audio"),
    ("ForAudioClassification", "audio"),
    ("ForImageClassification", "vision"),
    ("ForObjectDetection", "vision"),
    ("ForSemanticSegmentation", "vision"),
    ("ForImageTextToText", "multimodal"),
    ("ForSpeechSeq2Seq", "encoder-decoder"),
    ("ForCausalLM", "decoder"),
    ("LMHeadModel", "decoder"),
    ("ForMaskedLM", "encoder"),
)


def find_kind(fields: Fields) -> Kind | None:
    """The kind by model type, else by sections, class names and fields; None if unclear."""
    names = fields.architectures
    if any(name.endswith("EncoderModel") for name in names) and fields.model_type in ENCODER_DECODERS:
        return "encoder"
    known = _BY_TYPE.get(fields.model_type or "")
    if known is not None:
        return known
    parts = [part for part in ("text", "vision", "audio") if fields.section(part) is not None]
    if len(parts) > 1:
        return "multimodal"
    if fields.section("encoder") is not None and fields.section("decoder") is not None:
        return "encoder-decoder"
    if (found := _by_class(names)) is not None:
        return found
    return _by_fields(fields)


def _by_class(names: tuple[str, ...]) -> Kind | None:
    return next((kind for ending, kind in _BY_CLASS if any(name.endswith(ending) for name in names)), None)


def _by_fields(fields: Fields) -> Kind | None:
    if fields.raw("is_encoder_decoder") is True:
        return "encoder-decoder"
    if fields.size("patch_size") or (fields.size("image_size") and not fields.size("vocab")):
        return "vision"
    if fields.items("conv_stride") and fields.items("conv_dim"):
        return "audio"
    return "decoder" if fields.raw("is_decoder") is True else None
