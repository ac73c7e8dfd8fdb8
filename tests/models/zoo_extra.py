"""Types that transformers 4.57 supports and optimum-onnx 0.1.0 does not register."""

from __future__ import annotations

from typing import Any

from tests.models.zoo_detection import DETR_PROCESSOR, detr
from tests.models.zoo_entries import ASR, FFN, GEN, HEADS, HF, IC, LABELS, LAYERS, POS, S2S, VOCAB, ZSIC, H, add
from tests.models.zoo_processors import image_processor, square
from tests.models.zoo_sizes import decoder_sizes, t5_sizes, text_sizes, two_towers, vit_sizes
from tests.models.zoo_tokenizer_files import CTC_VOCAB, TOKENIZERS

_moe = {"num_local_experts": 16, "num_experts_per_tok": 2}
add("mixtral", GEN, decoder_sizes(sliding_window=None, **_moe), "llama", group="extra")
add(
    "cohere2",
    GEN,
    decoder_sizes(
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
        pad_token_id=0,
        logit_scale=0.5,
        tie_word_embeddings=True,
    ),
    "chatml",
    group="extra",
)
add(
    "qwen2_moe",
    GEN,
    decoder_sizes(num_experts=16, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=48),
    "chatml",
    group="extra",
)
add("olmoe", GEN, decoder_sizes(num_experts=16, num_experts_per_tok=2, pad_token_id=1), "gpt2", group="extra")
add(
    "olmo3",
    GEN,
    decoder_sizes(pad_token_id=1, sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
    "gpt2",
    group="extra",
)
add("phimoe", GEN, decoder_sizes(pad_token_id=0, **_moe), "llama", group="extra")
add("granitemoe", GEN, decoder_sizes(attention_multiplier=0.25, **_moe), "gpt2", group="extra")
add("glm4", GEN, decoder_sizes(head_dim=16, partial_rotary_factor=0.5, pad_token_id=0), "chatml", group="extra")
add(
    "exaone4",
    GEN,
    decoder_sizes(sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
    "gpt2",
    group="extra",
)
add("seed_oss", GEN, decoder_sizes(head_dim=16), "gpt2", group="extra")
add("hunyuan_v1_dense", GEN, decoder_sizes(head_dim=16), "gpt2", group="extra")
add("apertus", GEN, decoder_sizes(), "llama", group="extra")
add("bitnet", GEN, decoder_sizes(), "llama", group="extra")
add("persimmon", GEN, text_sizes(partial_rotary_factor=0.5), "llama", group="extra")
add("biogpt", GEN, text_sizes(), "bart", group="extra")
add(
    "xglm",
    GEN,
    {
        "vocab_size": VOCAB,
        "d_model": H,
        "ffn_dim": FFN,
        "num_layers": LAYERS,
        "attention_heads": HEADS,
        "max_position_embeddings": POS,
    },
    "xlmr",
    group="extra",
)
add(
    "mamba",
    GEN,
    {
        "vocab_size": VOCAB,
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "state_size": 8,
        "expand": 2,
        "conv_kernel": 4,
        "time_step_rank": 4,
    },
    "gpt2",
    group="extra",
)
add(
    "lfm2",
    GEN,
    decoder_sizes(layer_types=["conv", "full_attention"], conv_L_cache=3, pad_token_id=0),
    "chatml",
    group="extra",
)
add("umt5", S2S, t5_sizes(feed_forward_proj="gated-gelu", tie_word_embeddings=False), "t5", group="extra")
add(
    "led",
    S2S,
    {
        "vocab_size": VOCAB,
        "d_model": H,
        "encoder_layers": LAYERS,
        "decoder_layers": LAYERS,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": FFN,
        "decoder_ffn_dim": FFN,
        "max_encoder_position_embeddings": POS,
        "max_decoder_position_embeddings": POS,
        "attention_window": [8, 8],
    },
    "bart",
    group="extra",
)
add("ernie", "fill-mask", text_sizes(use_task_id=False), "wordpiece", group="extra")
add(
    "roberta-prelayernorm",
    "fill-mask",
    text_sizes(type_vocab_size=1, max_position_embeddings=POS + 2),
    "roberta",
    group="extra",
)
add(
    "xlm-roberta-xl", "fill-mask", text_sizes(type_vocab_size=1, max_position_embeddings=POS + 2), "xlmr", group="extra"
)
add(
    "fnet",
    "fill-mask",
    {
        "vocab_size": VOCAB,
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "intermediate_size": FFN,
        "max_position_embeddings": POS,
    },
    "albert",
    group="extra",
)
add(
    "funnel",
    "fill-mask",
    {
        "vocab_size": VOCAB,
        "block_sizes": [1, 1],
        "d_model": H,
        "n_head": HEADS,
        "d_head": 16,
        "d_inner": FFN,
        "num_decoder_layers": 1,
    },
    "wordpiece",
    group="extra",
)
add(
    "xlnet",
    "text-classification",
    {"vocab_size": VOCAB, "d_model": H, "n_layer": LAYERS, "n_head": HEADS, "d_inner": FFN, "pad_token_id": 0},
    "t5",
    group="extra",
)
add(
    "dinov2_with_registers",
    IC,
    vit_sizes(mlp_ratio=2, num_register_tokens=4, **LABELS),
    None,
    image_processor("BitImageProcessor", {"shortest_edge": 36}, crop_size=square(32)),
    group="extra",
)
add(
    "dinov3_vit",
    HF,
    vit_sizes(num_register_tokens=4),
    None,
    image_processor("ViTImageProcessor", square(32)),
    group="extra",
)
add(
    "mobilevitv2",
    IC,
    dict(image_size=64, width_multiplier=0.25, base_attn_unit_dims=[32, 32, 32], n_attn_blocks=[1, 1, 1], **LABELS),
    None,
    {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 72}, "crop_size": square(64)},
    group="extra",
)
add(
    "swiftformer",
    IC,
    dict(image_size=64, depths=[1, 1, 1, 1], embed_dims=[16, 16, 24, 32], mlp_ratio=2, **LABELS),
    None,
    image_processor("ViTImageProcessor", square(64)),
    group="extra",
)
add(
    "bit",
    IC,
    dict(embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 1, 1], num_groups=4, **LABELS),
    None,
    image_processor("BitImageProcessor", {"shortest_edge": 64}),
    group="extra",
)
add("conditional_detr", "object-detection", lambda: detr("ConditionalDetrConfig"), None, DETR_PROCESSOR, group="extra")
add(
    "clipseg",
    "image-segmentation",
    two_towers(
        "CLIPSegConfig",
        vision={"num_hidden_layers": 4},
        projection_dim=32,
        extract_layers=[1, 2, 3],
        reduce_dim=16,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=32,
        conditional_layer=0,
    ),
    "clip",
    image_processor("ViTImageProcessor", square(32)),
    group="extra",
)
add(
    "siglip2",
    ZSIC,
    two_towers(
        "Siglip2Config",
        text=dict(projection_size=H, max_position_embeddings=64, **TOKENIZERS["t5"][1]),
        vision={"num_patches": 16},
    ),
    "t5",
    {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 8, "max_num_patches": 16},
    group="extra",
)
add(
    "blip",
    "image-to-text",
    two_towers(
        "BlipConfig",
        text={"encoder_hidden_size": H, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3},
        projection_dim=32,
    ),
    "wordpiece",
    image_processor("BlipImageProcessor", square(32)),
    group="extra",
)


def _clap() -> Any:
    from transformers import ClapConfig

    return ClapConfig(
        text_config=text_sizes(max_position_embeddings=POS + 2, type_vocab_size=1, projection_dim=32),
        audio_config={
            "num_mel_bins": 16,
            "spec_size": 64,
            "window_size": 4,
            "patch_size": 4,
            "patch_stride": [4, 4],
            "patch_embeds_hidden_size": 16,
            "depths": [1, 1],
            "num_attention_heads": [2, 2],
            "num_hidden_layers": 2,
            "hidden_size": 32,
            "projection_dim": 32,
            "enable_fusion": False,
        },
        projection_dim=32,
    )


add(
    "clap",
    HF,
    _clap,
    "roberta",
    {
        "feature_extractor_type": "ClapFeatureExtractor",
        "feature_size": 16,
        "sampling_rate": 16000,
        "max_length_s": 7,  # 234 frames, which the model stretches to its 256
        "truncation": "rand_trunc",  # as of models without fusion
    },
    group="extra",
)
add(
    "wav2vec2-bert",
    ASR,
    {
        "vocab_size": len(CTC_VOCAB),
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "intermediate_size": FFN,
        "num_attention_heads": HEADS,
        "feature_projection_input_dim": 32,
        "conv_depthwise_kernel_size": 7,
        "left_max_position_embeddings": 8,
        "right_max_position_embeddings": 4,
        "pad_token_id": 0,
    },
    "ctc",
    {
        "feature_extractor_type": "SeamlessM4TFeatureExtractor",
        "feature_size": 16,
        "num_mel_bins": 16,
        "stride": 2,
        "sampling_rate": 16000,
    },
    group="extra",
)
