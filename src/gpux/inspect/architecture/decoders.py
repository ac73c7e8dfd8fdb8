"""Parameters of decoders: one formula, and the forms of each type."""

from __future__ import annotations

from collections.abc import Callable

from gpux.inspect.architecture.decoder_forms import FORMS, DecoderForm
from gpux.inspect.architecture.experts import expert_feed_forwards, find_experts
from gpux.inspect.architecture.fields import Fields, MissingFieldError, NoFormulaError
from gpux.inspect.architecture.heads import Heads, find_heads
from gpux.inspect.architecture.recurrent import RECURRENT, mixer_parameters
from gpux.inspect.architecture.tally import Tally, feed_forward, linear, norm, table

_HEADLESS = ("Model", "Decoder")
_WORDS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForPreTraining")
#: Types whose own code, and not a default in the signature, leaves words untied.
_UNTIED = frozenset({"dbrx"})


def count_decoder(fields: Fields) -> Tally:
    """Parameters of a decoder with the head that its class has (the output words where no class is named)."""
    form = FORMS[fields.model_type or ""]
    hidden, layers = fields.need("hidden"), fields.need("layers")
    body = _embeddings(fields, form, hidden) + _layers(fields, form, hidden, layers)
    return body + _final_norm(fields, form, hidden) + head(fields, form, hidden)


def count_recurrent(fields: Fields) -> Tally:
    """Parameters of a decoder without attention: Mamba and its kin."""
    hidden, layers = fields.need("hidden"), fields.need("layers")
    mixer = mixer_parameters(fields, hidden) + norm(hidden, bias=False)
    form = DecoderForm()
    return table(fields.need("vocab"), hidden) + layers * mixer + norm(hidden, False) + head(fields, form, hidden)


def _embeddings(fields: Fields, form: DecoderForm, hidden: int) -> Tally:
    width = fields.size("word_embed_proj_dim") or hidden if fields.model_type == "opt" else hidden
    found = table(fields.need("vocab"), width)
    if width != hidden:
        found += 2 * linear(width, hidden, bias=False)  # in and out of the narrow table (OPT-350M)
    if form.positions is not None:
        found += table(fields.need("context") + form.positions, hidden)
    return found + (norm(hidden) if form.embedding_norm else 0)


def _final_norm(fields: Fields, form: DecoderForm, hidden: int) -> int:
    if fields.model_type == "opt":
        if not fields.flag("layer_norm_elementwise_affine", True):
            raise NoFormulaError("norms without scales")
        if not fields.flag("do_layer_norm_before", True) or fields.flag("_remove_final_layer_norm"):
            return 0
    return form.norm_vectors * hidden


def head(fields: Fields, form: DecoderForm, hidden: int) -> Tally:
    """What stands behind the last layer, by the name of the class."""
    name = next(iter(fields.architectures), "ForCausalLM")
    if name.endswith("DoubleHeadsModel"):
        raise NoFormulaError(f"the class {name[:80]}")
    if name.endswith(_HEADLESS) and not name.endswith("LMHeadModel"):
        return Tally()
    if name.endswith("ForSequenceClassification"):
        return Tally(linear(hidden, fields.labels, bias=False))
    if name.endswith("ForTokenClassification"):
        return Tally(linear(hidden, fields.labels))
    if name.endswith("ForQuestionAnswering"):
        return Tally(linear(hidden, fields.labels if fields.model_type == "gptj" else 2))
    if not name.endswith(_WORDS):
        raise NoFormulaError(f"the class {name[:80]}")
    vocabulary = fields.need("vocab")
    words = Tally() if tied(fields) else table(vocabulary, hidden)
    return words + (vocabulary if decides(fields, form.head_bias) else 0)


def tied(fields: Fields) -> bool:
    """Are the output words the input words."""
    return fields.flag("tie_word_embeddings", default=fields.model_type not in _UNTIED)


def decides(fields: Fields, rule: bool | str) -> bool:
    """A form's truth value: itself, or that of the configuration which it names."""
    return fields.flag(rule) if isinstance(rule, str) else rule


def _layers(fields: Fields, form: DecoderForm, hidden: int, layers: int) -> Tally:
    heads = find_heads(fields)
    attending, mixing = _attention_layers(fields, layers)
    found = Tally(attending * _attention(fields, form, hidden, heads))
    if mixing:
        found += mixing * mixer_parameters(fields, hidden)
    return found + _feed_forwards(fields, form, hidden, layers) + layers * _norms(fields, form, hidden)


def _attention_layers(fields: Fields, layers: int) -> tuple[int, int]:
    """Layers that attend, and layers that mix by another way."""
    rule = RECURRENT.get(fields.model_type or "")
    attending = layers if rule is None else rule(fields, layers)
    return attending, layers - attending


def _norms(fields: Fields, form: DecoderForm, hidden: int) -> int:
    count = form.norms
    if fields.model_type == "stablelm" and fields.flag("use_parallel_residual"):
        count = 1
    if fields.model_type == "falcon":
        count = _falcon_norms(fields)
    extra = hidden + fields.need("inner") if fields.model_type == "bitnet" else 0
    return count * form.norm_vectors * hidden + extra


def _falcon_norms(fields: Fields) -> int:
    if fields.flag("new_decoder_architecture"):
        return fields.size("num_ln_in_parallel_attn") or 2
    return 1 if fields.flag("parallel_attn", True) else 2


def _attention(fields: Fields, form: DecoderForm, hidden: int, heads: Heads) -> int:
    if heads.kind == "MLA":
        return _latent_attention(fields, hidden, heads)
    count, kv, size = _sizes(heads)
    query_rows = 2 if fields.model_type == "qwen3_next" else 1  # each query has a gate
    biased = decides(fields, form.qkv_bias)
    queries = linear(hidden, query_rows * count * size, biased)
    keys_and_values = 2 * linear(hidden, kv * size, biased)
    out = linear(count * size, hidden, decides(fields, form.out_bias))
    return queries + keys_and_values + out + _head_norms(fields, form, heads) + form.per_head * count


def _sizes(heads: Heads) -> tuple[int, int, int]:
    if heads.count is None or heads.kv is None or heads.size is None:
        raise MissingFieldError("num_attention_heads")
    return heads.count, heads.kv, heads.size


def _head_norms(fields: Fields, form: DecoderForm, heads: Heads) -> int:
    if not form.qk_norm or (form.qk_flag and not fields.flag(form.qk_flag)):
        return 0
    count, kv, size = _sizes(heads)
    if form.qk_norm == "all":
        return (count + kv) * size
    vectors = form.norm_vectors
    return 2 * vectors * size


def _latent_attention(fields: Fields, hidden: int, heads: Heads) -> int:
    """Multi-head latent attention: DeepSeek-V2, arXiv 2405.04434, section 2.1."""
    count, _, size = _sizes(heads)
    biased = fields.flag("attention_bias")
    latent, rope = fields.need("kv_lora_rank"), fields.count("qk_rope_head_dim") or 0
    plain, value = fields.need("qk_nope_head_dim"), fields.need("v_head_dim")
    rank = fields.size("q_lora_rank")
    if rank is None:
        queries = linear(hidden, count * size, bias=False)
    else:
        queries = linear(hidden, rank, biased) + rank + linear(rank, count * size, bias=False)
    down = linear(hidden, latent + rope, biased) + latent
    up = linear(latent, count * (plain + value), bias=False)
    return queries + down + up + linear(count * value, hidden, biased)


def _feed_forwards(fields: Fields, form: DecoderForm, hidden: int, layers: int) -> Tally:
    experts = find_experts(fields, layers)
    if experts is not None:
        return expert_feed_forwards(fields, hidden, layers, experts)
    inner = inner_size(fields, form, hidden)
    return Tally(layers * feed_forward(hidden, inner, gated=form.gated, bias=decides(fields, form.mlp_bias)))


def inner_size(fields: Fields, form: DecoderForm, hidden: int) -> int:
    """Width inside the feed-forward."""
    special = _INNER.get(fields.model_type or "")
    if special is not None:
        return special(fields, hidden)
    return fields.size("inner") or (form.widen * hidden if form.widen else fields.need("inner"))


def _lfm2(fields: Fields, hidden: int) -> int:
    """LFM2 keeps two thirds of the stated width, rounded up to a multiple."""
    inner = fields.size("block_ff_dim") or fields.size("inner") or 4 * hidden
    if not fields.flag("block_auto_adjust_ff_dim", True):
        return inner
    inner = int(int(2 * inner / 3) * (fields.number("block_ffn_dim_multiplier") or 1.0))
    multiple = fields.size("block_multiple_of") or 256
    return multiple * -(-inner // multiple)


def _mpt(fields: Fields, hidden: int) -> int:
    return int(hidden * (fields.number("expansion_ratio") or 4))


_INNER: dict[str, Callable[[Fields, int], int]] = {"lfm2": _lfm2, "mpt": _mpt}
