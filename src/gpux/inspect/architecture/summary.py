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


_DEEPEST = 3  #: towers within towers
_PARTS = ("text", "vision", "audio", "encoder", "decoder")


def summarize(config: Mapping[str, Any]) -> ArchitectureSummary:
    """What a configuration says, under any of the naming conventions of the Hub.

    Never raises for what a configuration holds: a value that cannot be is None, and ``notes`` tells of it. Facts of a
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
    """The facts of the part that reads and writes text, with the whole's own name, precision and notes."""
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
    """Layers; the decoder's of a model of two sides, and the blocks of all stages of one that narrows."""
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
        return width  # the eye's ``hidden_size`` is the width that it hands on
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
    return [f"the files hold {count} more layer(s), for predicting several tokens, which the counts leave out"]


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
    attending, state = _remembering(fields, layers)
    slides = min(attending, layers if sliding_layers is None else sliding_layers) if window else 0
    cross = (decoder or layers) if kind == "encoder-decoder" else 0
    length = fields.size("max_source_positions") if fields.model_type == "whisper" else None
    return CacheShape(attending - slides, slides, window, width, expanded, cross, length, state)


def _widths(fields: Fields, heads: Heads) -> tuple[int | None, int | None]:
    """Numbers kept of each token and layer: a key and a value for each of their heads, or what stands for them."""
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


def _remembering(fields: Fields, layers: int) -> tuple[int, int]:
    """(layers that attend, numbers that all others remember)."""
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
#: Endings of class names, in the order in which they are looked for.
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
    """The kind, by the type where it is known, else by sections, class names and telling fields; None where unclear."""
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
