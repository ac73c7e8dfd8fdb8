"""Parameters of encoder-decoder models: the T5 family, the BART family, Whisper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gpux.inspect.architecture.fields import Fields, NoFormulaError
from gpux.inspect.architecture.layers import Parameters, linear, norm, table, transformer_layer


@dataclass(frozen=True)
class SidesForm:
    """How a type differs from BART."""

    positions: int | None = 2  #: rows of learned positions beyond the context length; None: sinusoidal, not stored
    first_norm: bool = True  #: after the embeddings of encoder and decoder
    last_norm: bool = False  #: after the last layer of encoder and decoder


SIDES: dict[str, SidesForm] = {
    **dict.fromkeys(("bart", "plbart", "mvp"), SidesForm()),
    "mbart": SidesForm(last_norm=True),
    "marian": SidesForm(positions=0, first_norm=False),
    "pegasus": SidesForm(positions=0, first_norm=False, last_norm=True),
    "m2m_100": SidesForm(positions=None, first_norm=False, last_norm=True),
    "blenderbot": SidesForm(positions=0, first_norm=False, last_norm=True),
    "blenderbot-small": SidesForm(positions=0),
}


def count_t5(fields: Fields) -> Parameters:
    """Parameters of T5 (arXiv 1910.10683), mT5 and umT5, or of their encoder, by class."""
    hidden, inner = fields.need("hidden"), fields.need("d_ff")
    width = fields.need("heads") * fields.need("d_kv")
    gated = (fields.text("feed_forward_proj") or "").startswith("gated")
    attention = 4 * hidden * width + hidden
    feed = (3 if gated else 2) * hidden * inner + hidden
    buckets = (fields.size("relative_attention_num_buckets") or 32) * fields.need("heads")
    layers = fields.need("num_layers")
    every = fields.model_type == "umt5"  # each layer has its own relative attention bias
    encoder = layers * (attention + feed) + hidden + buckets * (layers if every else 1)
    found = table(fields.need("vocab"), hidden) + encoder
    if next(iter(fields.architectures), "").endswith("EncoderModel"):
        return found
    layers = fields.size("num_decoder_layers") or layers
    found += layers * (2 * attention + feed) + hidden + buckets * (layers if every else 1)
    return found + _t5_head(fields, hidden)


def _t5_head(fields: Fields, hidden: int) -> Parameters:
    name = next(iter(fields.architectures), "ForConditionalGeneration")
    _check_class(name)
    if name.endswith("Model") or fields.flag("tie_word_embeddings", True):
        return Parameters()
    return table(fields.need("vocab"), hidden)


def _check_class(name: str) -> None:
    if not name.endswith(("Model", "ForConditionalGeneration")):
        raise NoFormulaError(f"the class {name[:80]}")


def count_sides(fields: Fields) -> Parameters:
    """Parameters of BART and of types of the same structure."""
    form, hidden = SIDES[fields.model_type or ""], fields.need("hidden")
    vocabulary = fields.need("vocab")
    found = table(vocabulary, hidden)
    if form.positions is not None:
        found += table(2 * (fields.need("max_position_embeddings") + form.positions), hidden)
    found += 2 * (norm(hidden) if form.first_norm else 0) + 2 * (norm(hidden) if form.last_norm else 0)
    found += fields.need("encoder_layers") * transformer_layer(hidden, fields.need("encoder_ffn_dim"))
    found += fields.need("decoder_layers") * transformer_layer(hidden, fields.need("decoder_ffn_dim"), cross=True)
    return found + _sides_head(fields, hidden)


def _sides_head(fields: Fields, hidden: int) -> Parameters:
    name = next(iter(fields.architectures), "ForConditionalGeneration")
    if name.endswith("ForSequenceClassification"):
        return Parameters(linear(hidden, hidden) + linear(hidden, fields.labels))
    if name.endswith("ForQuestionAnswering"):
        return Parameters(linear(hidden, 2))
    _check_class(name)
    if (name.endswith("Model") and not name.endswith("MTModel")) or fields.flag("tie_word_embeddings", True):
        return Parameters()
    return table(fields.need("vocab"), hidden)


def count_whisper(fields: Fields) -> Parameters:
    """Parameters of Whisper, arXiv 2212.04356; keys have no bias."""
    _check_class(next(iter(fields.architectures), "ForConditionalGeneration"))
    hidden = fields.need("hidden")
    found = table(fields.need("vocab"), hidden)
    found += table(fields.need("max_source_positions") + fields.need("max_target_positions"), hidden)
    found += linear(3 * fields.need("num_mel_bins"), hidden) + linear(3 * hidden, hidden) + 2 * norm(hidden)
    found += fields.need("encoder_layers") * transformer_layer(hidden, fields.need("encoder_ffn_dim"), key_bias=False)
    inner = fields.need("decoder_ffn_dim")
    return found + fields.need("decoder_layers") * transformer_layer(hidden, inner, cross=True, key_bias=False)


ENCODER_DECODERS: dict[str, Callable[[Fields], Parameters]] = {
    **dict.fromkeys(("t5", "mt5", "umt5"), count_t5),
    **dict.fromkeys(SIDES, count_sides),
    "whisper": count_whisper,
}
