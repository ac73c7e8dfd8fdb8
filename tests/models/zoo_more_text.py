"""More text models: registered types that are not in the other modules, and other branches of the same code."""

from __future__ import annotations

from typing import Any

from tests.models.zoo_entries import (
    ENCODER_TASKS,
    FFN,
    GEN,
    HEADS,
    HF,
    LAYERS,
    POS,
    S2S,
    VOCAB,
    H,
    add,
)
from tests.models.zoo_sizes import bart_sizes, decoder_sizes, t5_sizes, text_sizes

_ROBERTA = text_sizes(type_vocab_size=1, max_position_embeddings=POS + 2)
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
_LINEAR = {"rope_type": "linear", "factor": 2.0}
_PATTERN = ["sliding_attention", "full_attention"]


def _more(name: str, *recipe: Any) -> None:
    add(name, *recipe, group="more")


# text encoders
_more("electra", ENCODER_TASKS, text_sizes(embedding_size=32), "wordpiece")
_more("camembert", ENCODER_TASKS, _ROBERTA, "xlmr")
_more("squeezebert", ["fill-mask", HF], text_sizes(embedding_size=H), "wordpiece")
_more("data2vec-text", ["fill-mask", HF], _ROBERTA, "roberta")
_more("megatron-bert", "fill-mask", text_sizes(), "wordpiece")
_more(
    "lilt",
    "token-classification",
    {**_ROBERTA, "channel_shrink_ratio": 4, "max_2d_position_embeddings": 128},
    "roberta",
)
_more("bert+relative", "fill-mask", text_sizes(position_embedding_type="relative_key_query"), "wordpiece")
_more("bert+labels", "text-classification", text_sizes(problem_type="multi_label_classification"), "wordpiece")
_more(
    "modernbert+wide",
    HF,
    text_sizes(
        num_hidden_layers=4,
        global_attn_every_n_layers=2,
        local_attention=8,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
        reference_compile=False,
    ),
    "wordpiece",
)
_more(
    "deberta-v2+plain",
    "text-classification",
    text_sizes(relative_attention=False, type_vocab_size=2, pooler_hidden_size=H),
    "xlmr",
)
_more("xlm-roberta", ["multiple-choice"], _ROBERTA, "xlmr")

# decoders
_more(
    "gpt_neo",
    GEN,
    {
        "vocab_size": VOCAB,
        "hidden_size": H,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "intermediate_size": FFN,
        "max_position_embeddings": POS,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 8,
    },
    "gpt2",
)
_more(
    "codegen",
    GEN,
    {"vocab_size": VOCAB, "n_embd": H, "n_layer": LAYERS, "n_head": HEADS, "n_positions": POS, "rotary_dim": 8},
    "gpt2",
)
_more("granite", GEN, decoder_sizes(attention_multiplier=0.25, residual_multiplier=0.5, logits_scaling=2.0), "gpt2")
_more("smollm3", GEN, decoder_sizes(num_hidden_layers=4, pad_token_id=0), "chatml")  # no positions in every fourth
_more("olmo2", GEN, decoder_sizes(pad_token_id=1), "gpt2")
_more("stablelm", GEN, decoder_sizes(partial_rotary_factor=0.25, use_qkv_bias=True), "gpt2")
_more(
    "stablelm+parallel",
    GEN,
    decoder_sizes(partial_rotary_factor=0.5, use_parallel_residual=True),
    "gpt2",
)
_more("cohere", GEN, decoder_sizes(logit_scale=0.5, pad_token_id=0, tie_word_embeddings=True), "chatml")
_more("cohere+norms", GEN, decoder_sizes(logit_scale=0.5, pad_token_id=0, use_qk_norm=True), "chatml")
_more("glm", GEN, decoder_sizes(head_dim=16, partial_rotary_factor=0.5, pad_token_id=0), "chatml")
_more("llama+yarn", GEN, decoder_sizes(rope_scaling=_YARN), "llama")
_more("llama+linear", GEN, decoder_sizes(rope_scaling=_LINEAR), "llama")
_more("llama+bias", GEN, decoder_sizes(attention_bias=True, mlp_bias=True), "llama")
_more("llama+mha", GEN, decoder_sizes(num_key_value_heads=HEADS), "llama")
_more("llama+mqa", GEN, decoder_sizes(num_key_value_heads=1), "llama")
_more("qwen2+swa", GEN, decoder_sizes(use_sliding_window=True, sliding_window=8, max_window_layers=1), "chatml")
_more("qwen2+tied", GEN, decoder_sizes(tie_word_embeddings=True), "chatml")
_more("qwen2+yarn", GEN, decoder_sizes(rope_scaling=_YARN), "chatml")
_more(
    "qwen3+swa",
    GEN,
    decoder_sizes(head_dim=16, use_sliding_window=True, sliding_window=8, max_window_layers=1),
    "chatml",
)
_more(
    "gemma+heads",
    GEN,
    decoder_sizes(head_dim=32, num_key_value_heads=1, tie_word_embeddings=True, pad_token_id=0),
    "llama",
)
_more(
    "gemma2+cap",
    GEN,
    decoder_sizes(
        head_dim=16,
        sliding_window=16,
        query_pre_attn_scalar=32,
        pad_token_id=0,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0,
        tie_word_embeddings=True,
    ),
    "llama",
)
_more("gpt_neox+sequential", GEN, text_sizes(rotary_pct=1.0, use_parallel_residual=False), "gpt2")
_more("mistral", ["text-classification", HF], decoder_sizes(sliding_window=None), "llama")
_more("starcoder2", GEN, decoder_sizes(sliding_window=None), "gpt2")
_more("starcoder2+swa", GEN, decoder_sizes(sliding_window=8), "gpt2")
_more("ernie4_5", GEN, decoder_sizes(head_dim=16), "llama")
_more("mixtral+swa", GEN, decoder_sizes(sliding_window=8, num_local_experts=8, num_experts_per_tok=2), "llama")
_more(
    "jetmoe",
    GEN,
    {
        "vocab_size": VOCAB,
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": 2,
        "kv_channels": 16,
        "intermediate_size": FFN,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
    "llama",
)
_more("falcon_h1", GEN, decoder_sizes(mamba_d_ssm=64, mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8), "llama")

# sequence to sequence
_more("mbart", S2S, bart_sizes(decoder_start_token_id=2), "xlmr")
_more("pegasus", S2S, bart_sizes(decoder_start_token_id=0), "t5")
_more("plbart", S2S, bart_sizes(decoder_start_token_id=2), "bart")
_more("t5+gated", S2S, t5_sizes(feed_forward_proj="gated-gelu", tie_word_embeddings=False), "t5")
_more("bart+scaled", S2S, bart_sizes(decoder_start_token_id=2, scale_embedding=True), "bart")
