"""The small sizes that configurations of a family share, under the family's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.models.zoo_entries import FFN, HEADS, LAYERS, POS, VOCAB, Config, H
from tests.models.zoo_tokenizers import CLIP_EOS


def text_sizes(**kw: Any) -> Config:
    """Sizes with BERT's names, which every encoder configuration accepts."""
    base = {
        "vocab_size": VOCAB,
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": FFN,
        "max_position_embeddings": POS,
    }
    return {**base, **kw}


def decoder_sizes(**kw: Any) -> Config:
    return text_sizes(**{"num_key_value_heads": 2, "tie_word_embeddings": False, **kw})


def bart_sizes(**kw: Any) -> Config:
    base = {
        "vocab_size": VOCAB,
        "d_model": H,
        "encoder_layers": LAYERS,
        "decoder_layers": LAYERS,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": FFN,
        "decoder_ffn_dim": FFN,
        "max_position_embeddings": POS,
        "forced_eos_token_id": None,
    }
    return {**base, **kw}


def t5_sizes(**kw: Any) -> Config:
    base = {
        "vocab_size": VOCAB,
        "d_model": H,
        "d_kv": 16,
        "d_ff": FFN,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 16,
        "decoder_start_token_id": 0,
    }
    return {**base, **kw}


def vit_sizes(**kw: Any) -> Config:
    base = {
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": FFN,
        "image_size": 32,
        "patch_size": 8,
        "num_channels": 3,
    }
    return {**base, **kw}


def clip_text(**kw: Any) -> Config:
    return {
        "vocab_size": VOCAB,
        "hidden_size": H,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 32,
        "projection_dim": 32,
        "bos_token_id": CLIP_EOS - 1,
        "eos_token_id": CLIP_EOS,
        "pad_token_id": CLIP_EOS,
        **kw,
    }


def clip_vision(**kw: Any) -> Config:
    return vit_sizes(**{"projection_dim": 32, **kw})


def two_towers(cls: str, text: Config | None = None, vision: Config | None = None, **kw: Any) -> Callable[[], Any]:
    """A function that returns a configuration with a text and an image encoder."""

    def make() -> Any:
        import transformers

        return getattr(transformers, cls)(
            text_config=clip_text(**(text or {})), vision_config=clip_vision(**(vision or {})), **kw
        )

    return make
