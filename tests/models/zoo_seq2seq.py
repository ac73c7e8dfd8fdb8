"""Text-to-text encoder-decoders."""

from __future__ import annotations

from typing import Any

from tests.models.zoo_entries import HEADS, HF, LAYERS, POS, S2S, VOCAB, H, add
from tests.models.zoo_sizes import bart_sizes, t5_sizes, text_sizes

add("t5", [S2S, HF], t5_sizes(), "t5")
add("mt5", S2S, t5_sizes(feed_forward_proj="gated-gelu", tie_word_embeddings=False), "t5")
add(
    "longt5",
    S2S,
    t5_sizes(encoder_attention_type="transient-global", local_radius=7, global_block_size=4),
    "t5",
)


add("bart", [S2S, "text-classification", HF], bart_sizes(decoder_start_token_id=2), "bart")
add("marian", S2S, bart_sizes(pad_token_id=500, decoder_start_token_id=500, bos_token_id=0, eos_token_id=1), "t5")
add("m2m_100", S2S, bart_sizes(decoder_start_token_id=2), "xlmr")
add("blenderbot", S2S, bart_sizes(decoder_start_token_id=0), "bart")
add("blenderbot-small", S2S, bart_sizes(decoder_start_token_id=0), "bart")
add(
    "bigbird_pegasus",
    S2S,
    bart_sizes(attention_type="block_sparse", block_size=16, num_random_blocks=1, decoder_start_token_id=2),
    "t5",
)


def _encoder_decoder() -> Any:
    from transformers import BertConfig, EncoderDecoderConfig, GPT2Config

    enc = BertConfig(**text_sizes())
    dec = GPT2Config(
        vocab_size=VOCAB,
        n_embd=H,
        n_layer=LAYERS,
        n_head=HEADS,
        n_positions=POS,
        is_decoder=True,
        add_cross_attention=True,
    )
    cfg = EncoderDecoderConfig.from_encoder_decoder_configs(enc, dec)
    cfg.decoder_start_token_id, cfg.pad_token_id, cfg.eos_token_id = 2, 0, 3
    return cfg


add("encoder-decoder", S2S, _encoder_decoder, "wordpiece")
