"""Parameters of decoders: one formula, a table of how each type differs, and mixtures of experts.

Source: the published modelling code of each type, confirmed by building the golden configurations of the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gpux.inspect.architecture.attention import Heads, find_heads
from gpux.inspect.architecture.fields import Fields, MissingFieldError, NoFormulaError
from gpux.inspect.architecture.layers import Parameters, feed_forward, linear, norm, table
from gpux.inspect.architecture.recurrent import RECURRENT, mixer_parameters
from gpux.model.values import Value


@dataclass(frozen=True)
class DecoderForm:
    """How the layers of a decoder type are built; a string names the boolean in the configuration that decides."""

    gated: bool = True  #: the feed-forward has a gate projection
    norm_vectors: int = 1  #: 1: scale, 2: scale and shift, 0: no parameters
    norms: int = 2  #: per layer
    qkv_bias: bool | str = "attention_bias"
    out_bias: bool | str = "attention_bias"
    mlp_bias: bool | str = "mlp_bias"
    #: norms of queries and keys: one head wide and shared ("head"), or as wide as all heads ("all")
    qk_norm: str = ""
    qk_flag: str = ""  #: the boolean that enables them; empty: always enabled
    positions: int | None = None  #: learned positions: number of rows beyond the context length; None: not learned
    embedding_norm: bool = False
    head_bias: bool | str = False  #: of the output matrix
    widen: int | None = None  #: default ratio of feed-forward width to hidden size
    per_head: int = 0  #: further parameters per head (attention sinks)


_LLAMA = DecoderForm()
_PLAIN = DecoderForm(qkv_bias=False, out_bias=False, mlp_bias=False)
_GPT = DecoderForm(
    gated=False, norm_vectors=2, qkv_bias=True, out_bias=True, mlp_bias=True, widen=4, positions=0
)  # GPT-2
_GPTJ = replace(_GPT, qkv_bias=False, out_bias=False, norms=1, head_bias=True, positions=None)
_QWEN2 = replace(_PLAIN, qkv_bias=True)
_QWEN3 = replace(_PLAIN, qkv_bias="attention_bias", out_bias="attention_bias", qk_norm="head")
_OLMO2 = replace(_LLAMA, qk_norm="all", mlp_bias=False)
_COHERE = replace(_LLAMA, norms=1, mlp_bias=False)
_GLM = replace(_PLAIN, qkv_bias="attention_bias")
_ERNIE = DecoderForm(qkv_bias="use_bias", out_bias="use_bias", mlp_bias="use_bias")

#: ``model_type`` -> form.
FORMS: dict[str, DecoderForm] = {
    **dict.fromkeys(("llama", "code_llama", "granite", "smollm3", "granitemoe", "granitemoeshared"), _LLAMA),
    **dict.fromkeys(("gemma", "llama4_text", "deepseek_v2", "deepseek_v3", "jamba"), replace(_LLAMA, mlp_bias=False)),
    **dict.fromkeys(("mistral", "mixtral", "phi3", "dbrx"), _PLAIN),
    **dict.fromkeys(("qwen2", "qwen2_vl_text", "qwen2_5_vl_text"), _QWEN2),
    "helium": replace(_LLAMA, out_bias=False),
    "qwen2_moe": replace(_QWEN2, qkv_bias="qkv_bias"),
    **dict.fromkeys(("qwen3", "qwen3_moe", "dots1", "hunyuan_v1_dense"), _QWEN3),
    "qwen3_next": _QWEN3,
    "exaone4": replace(_PLAIN, qk_norm="head"),
    "lfm2": replace(_PLAIN, qk_norm="head"),
    "gemma2": replace(_LLAMA, norms=4, mlp_bias=False),
    "gemma3_text": replace(_LLAMA, norms=4, mlp_bias=False, qk_norm="head"),
    "phimoe": replace(_LLAMA, norm_vectors=2, mlp_bias=False, head_bias="lm_head_bias"),
    "phi": replace(_GPT, norms=1, positions=None, head_bias=True, qk_norm="head", qk_flag="qk_layernorm"),
    "persimmon": replace(_GPT, positions=None, qk_norm="head", qk_flag="qk_layernorm"),
    "stablelm": replace(_PLAIN, norm_vectors=2, qkv_bias="use_qkv_bias", qk_norm="all", qk_flag="qk_layernorm"),
    "starcoder2": replace(_ERNIE, gated=False, norm_vectors=2),
    "cohere": replace(_COHERE, qk_norm="all", qk_flag="use_qk_norm"),
    "cohere2": _COHERE,
    "olmo": replace(_LLAMA, norm_vectors=0, mlp_bias=False),
    **dict.fromkeys(("olmo2", "olmo3", "olmoe"), _OLMO2),
    "nemotron": replace(_LLAMA, gated=False, norm_vectors=2),
    "arcee": replace(_LLAMA, gated=False),
    **dict.fromkeys(("gpt2", "gpt-sw3", "gpt_bigcode"), _GPT),
    "gpt_neo": replace(_GPT, qkv_bias=False),
    **dict.fromkeys(("gptj", "codegen"), _GPTJ),
    "gpt_neox": replace(_GPT, qkv_bias="attention_bias", out_bias="attention_bias", positions=None),
    "bloom": replace(_GPT, positions=None, embedding_norm=True),
    "mpt": replace(_PLAIN, gated=False),
    "opt": replace(_GPT, positions=2, qkv_bias="enable_bias", out_bias="enable_bias", mlp_bias="enable_bias"),
    "biogpt": replace(_GPT, positions=2),
    "xglm": replace(_GPT, positions=None),
    "falcon": replace(_PLAIN, gated=False, norm_vectors=2, widen=4, qkv_bias="bias", out_bias="bias", mlp_bias="bias"),
    **dict.fromkeys(("glm",), _GLM),
    "glm4": replace(_GLM, norms=4),
    "glm4_moe": replace(_GLM, qk_norm="head", qk_flag="use_qk_norm"),
    "seed_oss": replace(_LLAMA, out_bias="attention_out_bias"),
    **dict.fromkeys(("ernie4_5", "ernie4_5_moe"), _ERNIE),
    "bitnet": replace(_LLAMA, mlp_bias=False),
    "gpt_oss": replace(_LLAMA, qkv_bias=True, out_bias=True, mlp_bias=True, per_head=1),
}


#: Types whose shared experts have a gate.
_SHARED_GATE = frozenset({"qwen2_moe", "qwen3_next"})


@dataclass(frozen=True)
class Experts(Value):
    """The experts of a mixture-of-experts model."""

    count: int  #: routed experts per layer
    active: int | None  #: routed experts that one token uses
    shared: int  #: shared experts, which every token uses
    size: int | None  #: inner width of one routed expert
    shared_size: int  #: inner width of all shared experts together
    layers: int  #: layers with experts; the others have a dense feed-forward


def find_experts(fields: Fields, layers: int) -> Experts | None:
    """The experts of a model with ``layers`` layers; None for a dense model."""
    count = fields.size("experts") or 0
    if count < 2:
        return None
    size = fields.size("expert") or fields.size("inner")
    shared = fields.count("shared_experts") or 0
    width = fields.size("shared_expert") or shared * (size or 0)
    if fields.model_type == "llama4_text":
        shared, width = 1, fields.size("inner") or 0
    elif width and not shared:
        shared = 1
    return Experts(count, fields.size("used_experts"), shared, size, width, sparse_layers(fields, layers))


def sparse_layers(fields: Fields, layers: int) -> int:
    """The number of layers with experts, by the rule of the model type."""
    dense = fields.items("mlp_only_layers")
    steps = range(layers)
    if (step := fields.size("decoder_sparse_step")) is not None:
        return sum((i + 1) % step == 0 and i not in dense for i in steps)
    if (first := fields.count("first_k_dense_replace")) is not None:
        return max(0, layers - first)
    if (period := fields.size("expert_layer_period")) is not None:
        offset = fields.count("expert_layer_offset") or 0
        return sum(i % period == offset for i in steps)
    if (step := fields.size("interleave_moe_layer_step")) is not None:
        return len(range(step - 1, layers, step))
    if (interval := fields.size("moe_layer_interval")) is not None:
        start, end = fields.count("moe_layer_start_index") or 0, fields.count("moe_layer_end_index")
        last = layers - 1 if end is None else end
        return sum((i + 1) % interval == 0 and start <= i <= last for i in steps)
    return layers


def expert_feed_forwards(fields: Fields, hidden: int, layers: int, experts: Experts) -> Parameters:
    """Feed-forwards of all layers of a model with experts, including the routers."""
    if fields.model_type != "gpt_oss" and (fields.flag("use_bias") or fields.flag("mlp_bias")):
        raise NoFormulaError("experts with biases")
    biased = fields.model_type == "gpt_oss"
    inner = fields.size("intermediate_size_mlp") or fields.need("inner")
    dense = feed_forward(hidden, inner, gated=True, bias=False) * (layers - experts.layers)
    one = feed_forward(hidden, experts.size or fields.need("expert"), gated=True, bias=biased)
    shared = feed_forward(hidden, experts.shared_size, gated=True, bias=False) if experts.shared_size else 0
    sparse = experts.count * one + shared + _router(fields, hidden, experts)
    used = min(experts.count, experts.active or experts.count)
    return Parameters(dense + experts.layers * sparse, experts.layers * (experts.count - used) * one)


def _router(fields: Fields, hidden: int, experts: Experts) -> int:
    own = experts.count if fields.model_type in ("gpt_oss", "ernie4_5_moe") else 0  # biases of the router
    gate = hidden if fields.model_type in _SHARED_GATE else 0
    return experts.count * hidden + own + gate


_HEADLESS = ("Model", "Decoder")
_LM_HEADS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForPreTraining")
#: Types whose modeling code, not the default of the configuration, unties the embeddings.
_UNTIED = frozenset({"dbrx"})


def count_decoder(fields: Fields) -> Parameters:
    """Parameters of a decoder with the head of its class (default: a language model head)."""
    form = FORMS[fields.model_type or ""]
    hidden, layers = fields.need("hidden"), fields.need("layers")
    body = _embeddings(fields, form, hidden) + _layers(fields, form, hidden, layers)
    return body + _final_norm(fields, form, hidden) + head(fields, form, hidden)


def count_recurrent(fields: Fields) -> Parameters:
    """Parameters of a decoder without attention, such as Mamba."""
    hidden, layers = fields.need("hidden"), fields.need("layers")
    mixer = mixer_parameters(fields, hidden) + norm(hidden, bias=False)
    form = DecoderForm()
    return table(fields.need("vocab"), hidden) + layers * mixer + norm(hidden, False) + head(fields, form, hidden)


def _embeddings(fields: Fields, form: DecoderForm, hidden: int) -> Parameters:
    width = fields.size("word_embed_proj_dim") or hidden if fields.model_type == "opt" else hidden
    found = table(fields.need("vocab"), width)
    if width != hidden:
        found += 2 * linear(width, hidden, bias=False)  # projections in and out of a narrower embedding (OPT-350M)
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


def head(fields: Fields, form: DecoderForm, hidden: int) -> Parameters:
    """The head after the last layer, by class name."""
    name = next(iter(fields.architectures), "ForCausalLM")
    if name.endswith("DoubleHeadsModel"):
        raise NoFormulaError(f"the class {name[:80]}")
    if name.endswith(_HEADLESS) and not name.endswith("LMHeadModel"):
        return Parameters()
    if name.endswith("ForSequenceClassification"):
        return Parameters(linear(hidden, fields.labels, bias=False))
    if name.endswith("ForTokenClassification"):
        return Parameters(linear(hidden, fields.labels))
    if name.endswith("ForQuestionAnswering"):
        return Parameters(linear(hidden, fields.labels if fields.model_type == "gptj" else 2))
    if not name.endswith(_LM_HEADS):
        raise NoFormulaError(f"the class {name[:80]}")
    vocabulary = fields.need("vocab")
    output = Parameters() if tied(fields) else table(vocabulary, hidden)
    return output + (vocabulary if decides(fields, form.head_bias) else 0)


def tied(fields: Fields) -> bool:
    """Whether the output matrix is the input embedding."""
    return fields.flag("tie_word_embeddings", default=fields.model_type not in _UNTIED)


def decides(fields: Fields, rule: bool | str) -> bool:
    """Resolve a boolean of a form: the value itself, or the boolean in the configuration that it names."""
    return fields.flag(rule) if isinstance(rule, str) else rule


def _layers(fields: Fields, form: DecoderForm, hidden: int, layers: int) -> Parameters:
    heads = find_heads(fields)
    attending, mixing = _attention_layers(fields, layers)
    found = Parameters(attending * _attention(fields, form, hidden, heads))
    if mixing:
        found += mixing * mixer_parameters(fields, hidden)
    return found + _feed_forwards(fields, form, hidden, layers) + layers * _norms(fields, form, hidden)


def _attention_layers(fields: Fields, layers: int) -> tuple[int, int]:
    """Returns (layers with attention, layers with another mixer)."""
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


def _feed_forwards(fields: Fields, form: DecoderForm, hidden: int, layers: int) -> Parameters:
    experts = find_experts(fields, layers)
    if experts is not None:
        return expert_feed_forwards(fields, hidden, layers, experts)
    inner = inner_size(fields, form, hidden)
    return Parameters(layers * feed_forward(hidden, inner, gated=form.gated, bias=decides(fields, form.mlp_bias)))


def inner_size(fields: Fields, form: DecoderForm, hidden: int) -> int:
    """Width inside the feed-forward."""
    special = _INNER.get(fields.model_type or "")
    if special is not None:
        return special(fields, hidden)
    return fields.size("inner") or (form.widen * hidden if form.widen else fields.need("inner"))


def _lfm2(fields: Fields, hidden: int) -> int:
    """LFM2 uses two thirds of the stated width, rounded up to a multiple."""
    inner = fields.size("block_ff_dim") or fields.size("inner") or 4 * hidden
    if not fields.flag("block_auto_adjust_ff_dim", True):
        return inner
    inner = int(int(2 * inner / 3) * (fields.number("block_ffn_dim_multiplier") or 1.0))
    multiple = fields.size("block_multiple_of") or 256
    return multiple * -(-inner // multiple)


def _mpt(fields: Fields, hidden: int) -> int:
    return int(hidden * (fields.number("expansion_ratio") or 4))


_INNER: dict[str, Callable[[Fields, int], int]] = {"lfm2": _lfm2, "mpt": _mpt}
