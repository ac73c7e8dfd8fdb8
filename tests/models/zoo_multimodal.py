"""Models of images and text together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.models.zoo_entries import FFN, HEADS, HF, I2T, IC, LAYERS, POS, VOCAB, ZSIC, ZSOD, H, add
from tests.models.zoo_processors import image_processor, square
from tests.models.zoo_sizes import clip_text, clip_vision, decoder_sizes, two_towers, vit_sizes
from tests.models.zoo_tokenizer_files import TOKENIZERS

CLIP_PROCESSOR = image_processor("CLIPImageProcessor", {"shortest_edge": 32}, crop_size=square(32), do_center_crop=True)
add("clip", [ZSIC, HF, IC], two_towers("CLIPConfig", projection_dim=32), "clip", CLIP_PROCESSOR)
add("clip_vision_model", HF, clip_vision(), None, CLIP_PROCESSOR)
add("siglip_vision_model", HF, vit_sizes(), None, image_processor("SiglipImageProcessor", square(32)))
add(
    "metaclip_2",
    ZSIC,
    two_towers("MetaClip2Config", text=TOKENIZERS["xlmr"][1], projection_dim=32),
    "xlmr",
    CLIP_PROCESSOR,
)
add(
    "owlvit",
    ZSOD,
    two_towers("OwlViTConfig", text={"max_position_embeddings": 16}, projection_dim=H),
    "clip",
    image_processor("OwlViTImageProcessor", square(32)),
)


def _groupvit() -> Any:
    from transformers import GroupViTConfig

    return GroupViTConfig(
        text_config=clip_text(),
        vision_config={
            "hidden_size": 32,
            "depths": [2, 2, 2],
            "num_hidden_layers": 6,
            "num_group_tokens": [8, 4, 0],
            "num_output_groups": [8, 4, 0],
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
            "intermediate_size": 48,
            "assign_mlp_ratio": [0.5, 4],
        },
        projection_dim=32,
        projection_intermediate_dim=48,
    )


add("groupvit", HF, _groupvit, "clip", CLIP_PROCESSOR)


def _sam() -> Any:
    from transformers import SamConfig

    return SamConfig(
        vision_config={
            "hidden_size": 32,
            "output_channels": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 8,
            "window_size": 4,
            "global_attn_indexes": [1],
            "mlp_dim": 48,
            "num_pos_feats": 8,
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4},
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
            "iou_head_depth": 2,
        },
    )


add(
    "sam",
    HF,
    _sam,
    None,
    {"image_processor_type": "SamImageProcessor", "size": {"longest_edge": 64}, "pad_size": square(64)},
)


def _vision_encoder_decoder(decoder: str) -> Callable[[], Any]:
    def make() -> Any:
        from transformers import GPT2Config, TrOCRConfig, VisionEncoderDecoderConfig, ViTConfig

        enc = ViTConfig(**vit_sizes())
        if decoder == "trocr":
            dec = TrOCRConfig(
                vocab_size=VOCAB,
                d_model=H,
                decoder_layers=LAYERS,
                decoder_attention_heads=HEADS,
                decoder_ffn_dim=FFN,
                max_position_embeddings=POS,
                is_decoder=True,
                add_cross_attention=True,
                cross_attention_hidden_size=H,
            )
            ids = (2, 1, 2)
        else:
            dec = GPT2Config(
                vocab_size=VOCAB,
                n_embd=H,
                n_layer=LAYERS,
                n_head=HEADS,
                n_positions=POS,
                is_decoder=True,
                add_cross_attention=True,
            )
            ids = (0, 0, 0)
        cfg = VisionEncoderDecoderConfig.from_encoder_decoder_configs(enc, dec)
        cfg.decoder_start_token_id, cfg.pad_token_id, cfg.eos_token_id = ids
        return cfg

    return make


add(
    "vision-encoder-decoder",
    I2T,
    _vision_encoder_decoder("trocr"),
    "bart",
    image_processor("ViTImageProcessor", square(32)),
)
add(
    "vision-encoder-decoder+gpt2",
    I2T,
    _vision_encoder_decoder("gpt2"),
    "gpt2",
    image_processor("ViTImageProcessor", square(32)),
)


def _pix2struct() -> Any:
    from transformers import Pix2StructConfig

    text = {
        "vocab_size": VOCAB,
        "hidden_size": H,
        "d_kv": 16,
        "d_ff": FFN,
        "num_layers": LAYERS,
        "num_heads": HEADS,
        "relative_attention_num_buckets": 8,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }
    vision = {
        "hidden_size": H,
        "patch_embed_hidden_size": 48,
        "d_ff": FFN,
        "d_kv": 16,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "patch_size": 4,
        "seq_len": 64,
    }
    return Pix2StructConfig(text_config=text, vision_config=vision, is_encoder_decoder=True)


add(
    "pix2struct",
    I2T,
    _pix2struct,
    "t5",
    {
        "image_processor_type": "Pix2StructImageProcessor",
        "processor_class": "Pix2StructProcessor",
        "max_patches": 24,
        "patch_size": {"height": 4, "width": 4},
        "do_normalize": True,
        "do_convert_rgb": True,
        "is_vqa": False,
    },
)


def _colpali() -> Any:
    from transformers import ColPaliConfig

    return ColPaliConfig(
        vlm_config={
            "model_type": "paligemma",
            "image_token_index": 507,
            "projection_dim": H,
            "vocab_size": VOCAB,
            "hidden_size": H,
            "text_config": dict(
                model_type="gemma", num_image_tokens=16, **decoder_sizes(head_dim=16, num_key_value_heads=1)
            ),
            "vision_config": dict(
                model_type="siglip_vision_model",
                projection_dim=H,
                num_image_tokens=16,
                vision_use_head=False,
                **vit_sizes(),
            ),
        },
        embedding_dim=32,
    )


add("colpali", HF, _colpali, "llama", image_processor("SiglipImageProcessor", square(32)))
