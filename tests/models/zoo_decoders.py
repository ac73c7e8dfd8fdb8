"""Decoder-only text models."""

from __future__ import annotations

from typing import Any

from tests.models.zoo_entries import (
    FFN,
    GEN,
    HEADS,
    HF,
    LAYERS,
    POS,
    VOCAB,
    H,
    add,
)
from tests.models.zoo_processors import image_processor, square
from tests.models.zoo_sizes import (
    decoder_sizes,
    text_sizes,
)

add(
    "gpt2",
    [GEN, "text-classification"],
    {"vocab_size": VOCAB, "n_embd": H, "n_layer": LAYERS, "n_head": HEADS, "n_positions": POS},
    "gpt2",
)
add("gpt_neox", GEN, text_sizes(rotary_pct=0.25), "gpt2")
add(
    "gptj",
    GEN,
    {"vocab_size": VOCAB, "n_embd": H, "n_layer": LAYERS, "n_head": HEADS, "n_positions": POS, "rotary_dim": 8},
    "gpt2",
)
add(
    "opt",
    GEN,
    {
        "vocab_size": VOCAB,
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "ffn_dim": FFN,
        "max_position_embeddings": POS,
        "word_embed_proj_dim": H,
        "pad_token_id": 1,
        "bos_token_id": 2,
        "eos_token_id": 2,
    },
    "bart",
)
add(
    "opt+postnorm",
    GEN,
    {
        "vocab_size": VOCAB,
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "ffn_dim": FFN,
        "num_attention_heads": HEADS,
        "max_position_embeddings": POS,
        "word_embed_proj_dim": 32,
        "do_layer_norm_before": False,
        "pad_token_id": 1,
        "bos_token_id": 2,
        "eos_token_id": 2,
    },
    "bart",
)
add(
    "bloom",
    GEN,
    {
        "vocab_size": VOCAB,
        "hidden_size": H,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    },
    "llama",
)
add(
    "gpt_bigcode",
    GEN,
    {"vocab_size": VOCAB, "n_embd": H, "n_layer": LAYERS, "n_head": HEADS, "n_positions": POS, "multi_query": True},
    "gpt2",
)
add(
    "gpt_bigcode+mha",
    GEN,
    {"vocab_size": VOCAB, "n_embd": H, "n_layer": LAYERS, "n_head": HEADS, "n_positions": POS, "multi_query": False},
    "gpt2",
)
add(
    "falcon",
    GEN,
    text_sizes(
        multi_query=True,
        parallel_attn=True,
        alibi=False,
        bias=False,
        new_decoder_architecture=False,
        ffn_hidden_size=FFN,
    ),
    "gpt2",
)
add(
    "falcon+alibi",
    GEN,
    text_sizes(
        multi_query=False,
        parallel_attn=False,
        alibi=True,
        bias=True,
        new_decoder_architecture=False,
        ffn_hidden_size=FFN,
    ),
    "gpt2",
)
add(
    "falcon+new",
    GEN,
    text_sizes(
        multi_query=True,
        parallel_attn=True,
        alibi=False,
        bias=False,
        num_kv_heads=2,
        new_decoder_architecture=True,
        ffn_hidden_size=FFN,
    ),
    "gpt2",
)
add(
    "mpt",
    GEN,
    {"vocab_size": VOCAB, "d_model": H, "n_heads": HEADS, "n_layers": LAYERS, "expansion_ratio": 2, "max_seq_len": POS},
    "gpt2",
)
add("llama", [GEN, "text-classification", HF], decoder_sizes(), "llama")
add("llama+tied", GEN, decoder_sizes(tie_word_embeddings=True, attention_bias=True), "llama")
add(
    "llama+rope3",
    GEN,
    decoder_sizes(
        rope_scaling={
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        }
    ),
    "llama",
)
add(
    "llama+dynamic",
    GEN,
    decoder_sizes(max_position_embeddings=32, rope_scaling={"rope_type": "dynamic", "factor": 2.0}),
    "llama",
)
add("mistral", GEN, decoder_sizes(sliding_window=None), "llama")
add(
    "mistral+head32", GEN, decoder_sizes(sliding_window=None, head_dim=32), "llama"
)  # head_dim != hidden / heads (Nemo)
add("llama+head32", GEN, decoder_sizes(head_dim=32), "llama")
add("mistral+swa", GEN, decoder_sizes(sliding_window=8), "llama")
add("qwen2", [GEN, "text-classification", HF], decoder_sizes(), "chatml")
add("qwen3", [GEN, HF], decoder_sizes(head_dim=16), "chatml")
add("qwen3+head32", GEN, decoder_sizes(head_dim=32), "chatml")
# Mixture-of-experts entries have more experts than the exporter's 32 dummy tokens are likely to use: a traced loop that
# skips idle experts then omits some, which four experts would not show.
add(
    "qwen3_moe",
    GEN,
    decoder_sizes(
        head_dim=16,
        num_experts=16,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        decoder_sparse_step=1,
        mlp_only_layers=[],
    ),
    "chatml",
)
add("phi", GEN, text_sizes(num_attention_heads=2, partial_rotary_factor=0.5, bos_token_id=0, eos_token_id=0), "gpt2")
add("phi3", GEN, decoder_sizes(original_max_position_embeddings=POS, pad_token_id=0), "llama")
add("phi3+swa", GEN, decoder_sizes(original_max_position_embeddings=POS, pad_token_id=0, sliding_window=8), "llama")
add(
    "phi3+longrope",
    GEN,
    decoder_sizes(
        original_max_position_embeddings=32,
        pad_token_id=0,
        rope_scaling={
            "type": "longrope",
            "short_factor": [1.0 + 0.1 * i for i in range(8)],
            "long_factor": [2.0 + 0.5 * i for i in range(8)],
        },
    ),
    "llama",
)
add(
    "gemma",
    GEN,
    decoder_sizes(head_dim=16, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1, eos_token_id=2),
    "llama",
)
add(
    "gemma2",
    GEN,
    decoder_sizes(head_dim=16, sliding_window=8, query_pre_attn_scalar=16, tie_word_embeddings=True, pad_token_id=0),
    "llama",
)
add(
    "gemma3_text",
    [GEN, HF],
    decoder_sizes(
        head_dim=16,
        num_hidden_layers=6,
        sliding_window=8,
        query_pre_attn_scalar=16,
        tie_word_embeddings=True,
        pad_token_id=0,
    ),
    "llama",
)  # six layers: the natural pattern is five sliding, one full


def _gemma3() -> Any:
    from transformers import Gemma3Config

    text = decoder_sizes(
        head_dim=16, num_hidden_layers=6, sliding_window=8, query_pre_attn_scalar=16, tie_word_embeddings=True
    )
    vision = {
        "hidden_size": H,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "image_size": 32,
        "patch_size": 8,
        "vision_use_head": False,
    }
    return Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        boi_token_index=505,
        eoi_token_index=506,
        image_token_index=507,
    )


add("gemma3", GEN, _gemma3, "llama", image_processor("Gemma3ImageProcessor", square(32)))
add(
    "gpt_oss",
    GEN,
    decoder_sizes(
        head_dim=16,
        num_local_experts=16,
        num_experts_per_tok=2,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
        pad_token_id=0,
    ),
    "chatml",
)
add("olmo", GEN, decoder_sizes(pad_token_id=1), "gpt2")
add("helium", GEN, decoder_sizes(head_dim=16, pad_token_id=0), "llama")
add("arcee", GEN, decoder_sizes(), "llama")
add("nemotron", GEN, decoder_sizes(head_dim=32, partial_rotary_factor=0.5), "llama")
add(
    "deepseek_v3",
    GEN,
    decoder_sizes(
        num_key_value_heads=HEADS,
        q_lora_rank=32,
        kv_lora_rank=16,
        qk_nope_head_dim=16,
        qk_rope_head_dim=8,
        v_head_dim=16,
        n_routed_experts=32,
        num_experts_per_tok=2,
        n_group=4,
        topk_group=2,
        n_shared_experts=1,
        first_k_dense_replace=1,
        moe_intermediate_size=32,
        rope_interleave=True,
    ),
    "llama",
)
