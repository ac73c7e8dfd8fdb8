"""What sort of model a configuration describes."""

from __future__ import annotations

from gpux.inspect.architecture.audio import AUDIO
from gpux.inspect.architecture.decoder_forms import FORMS
from gpux.inspect.architecture.encoders import ENCODERS
from gpux.inspect.architecture.fields import Fields
from gpux.inspect.architecture.heads import CONVOLUTION, STATE_SPACE
from gpux.inspect.architecture.multimodal import MULTIMODAL
from gpux.inspect.architecture.seq2seq import ENCODER_DECODERS
from gpux.inspect.architecture.shapes import Kind
from gpux.inspect.architecture.vision import VISION

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
