"""What one type of decoder has that another has not: biases, norms, gates, learned positions.

Source: the published modelling code of each type, confirmed by building the golden configurations of the tests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class DecoderForm:
    """How a decoder's layers are built; a text names the truth value in the configuration that decides."""

    gated: bool = True  #: the feed-forward has two matrices up and one down
    norm_vectors: int = 1  #: 1 scale, 2 scale and shift, 0 nothing to learn
    norms: int = 2  #: per layer
    qkv_bias: bool | str = "attention_bias"
    out_bias: bool | str = "attention_bias"
    mlp_bias: bool | str = "mlp_bias"
    #: norms of queries and keys: of one head's width, shared by all ("head"), or of all heads' width ("all")
    qk_norm: str = ""
    qk_flag: str = ""  #: the truth value that switches them on; none: always on
    positions: int | None = None  #: learned positions, with so many rows more than the context has
    embedding_norm: bool = False
    head_bias: bool | str = False  #: of the output words
    widen: int | None = None  #: the feed-forward's width over the hidden size where the file does not tell
    per_head: int = 0  #: further numbers for each head of a layer (attention sinks)


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
