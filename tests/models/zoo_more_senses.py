"""More vision and audio models: registered types that are not in the other modules, and variants."""

from __future__ import annotations

from typing import Any

from tests.models.zoo_entries import (
    AC,
    ASR,
    FFN,
    HEADS,
    HF,
    IC,
    LABELS,
    LAYERS,
    ZSIC,
    ZSOD,
    H,
    add,
)
from tests.models.zoo_processors import image_processor, square, wave_extractor
from tests.models.zoo_sizes import text_sizes, two_towers, vit_sizes
from tests.models.zoo_tokenizer_files import TOKENIZERS


def _more(name: str, *recipe: Any) -> None:
    add(name, *recipe, group="more")


# vision
_more(
    "deit", [IC, HF], vit_sizes(**LABELS), None, image_processor("DeiTImageProcessor", square(32), crop_size=square(32))
)
_more(
    "poolformer",
    IC,
    {
        "hidden_sizes": [16, 24, 32, 48],
        "depths": [1, 1, 1, 1],
        "mlp_ratio": 2.0,
        **LABELS,
    },
    None,
    image_processor("PoolFormerImageProcessor", {"shortest_edge": 64}, crop_size=square(64)),
)
_more(
    "convnextv2",
    IC,
    {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1], **LABELS},
    None,
    image_processor("ConvNextImageProcessor", {"shortest_edge": 64}),
)
_more(
    "swinv2",
    IC,
    {
        "image_size": 32,
        "patch_size": 2,
        "embed_dim": 16,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "window_size": 4,
        **LABELS,
    },
    None,
    image_processor("ViTImageProcessor", square(32)),
)
_more(
    "glpn",
    "depth-estimation",
    {
        "num_encoder_blocks": 4,
        "depths": [1, 1, 1, 1],
        "sr_ratios": [8, 4, 2, 1],
        "hidden_sizes": [16, 16, 32, 32],
        "num_attention_heads": [1, 1, 2, 2],
        "mlp_ratios": [2, 2, 2, 2],
        "decoder_hidden_size": 16,
    },
    None,
    {"image_processor_type": "GLPNImageProcessor", "size_divisor": 32, "do_rescale": True},
)
_more(
    "yolos",
    "object-detection",
    vit_sizes(image_size=[32, 32], num_detection_tokens=5, **LABELS),
    None,
    image_processor("YolosImageProcessor", {"shortest_edge": 32, "longest_edge": 48}, format="coco_detection"),
)
_more(
    "vit+large",
    IC,
    vit_sizes(image_size=48, patch_size=16, qkv_bias=False, **LABELS),
    None,
    image_processor("ViTImageProcessor", square(48)),
)

# audio
_more(
    "hubert",
    [ASR, AC],
    {
        "vocab_size": 31,
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": FFN,
        "conv_dim": (16, 16, 16),
        "conv_kernel": (10, 8, 4),
        "conv_stride": (5, 4, 2),
        "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "classifier_proj_size": 16,
        "pad_token_id": 0,
    },
    "ctc",
    wave_extractor(),
)
_more(
    "unispeech",
    ASR,
    {
        "vocab_size": 31,
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": FFN,
        "conv_dim": (16, 16, 16),
        "conv_kernel": (10, 8, 4),
        "conv_stride": (5, 4, 2),
        "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "num_codevectors_per_group": 8,
        "codevector_dim": 16,
        "proj_codevector_dim": 16,
        "classifier_proj_size": 16,
        "num_ctc_classes": 31,
        "pad_token_id": 0,
    },
    "ctc",
    wave_extractor(),
)
_more(
    "sew",
    ASR,
    {
        "vocab_size": 31,
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": FFN,
        "squeeze_factor": 2,
        "conv_dim": (16, 16, 16),
        "conv_kernel": (10, 8, 4),
        "conv_stride": (5, 4, 2),
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4,
        "pad_token_id": 0,
    },
    "ctc",
    wave_extractor(),
)

# images and text
_SIGLIP_TEXT = {"projection_size": H, "max_position_embeddings": 64, **TOKENIZERS["t5"][1]}  # pipelines pad to 64
_more(
    "siglip",
    [ZSIC, HF],
    two_towers("SiglipConfig", text=_SIGLIP_TEXT),
    "t5",
    image_processor("SiglipImageProcessor", square(32)),
)
_more(
    "owlv2",
    ZSOD,
    two_towers("Owlv2Config", text={"max_position_embeddings": 16}, projection_dim=H),
    "clip",
    image_processor("Owlv2ImageProcessor", square(32)),
)


def _chinese_clip() -> Any:
    from transformers import ChineseCLIPConfig

    return ChineseCLIPConfig(
        text_config=text_sizes(pad_token_id=0),
        vision_config=vit_sizes(projection_dim=32),
        projection_dim=32,
    )


_more(
    "chinese_clip",
    ZSIC,
    _chinese_clip,
    "wordpiece",
    image_processor("ChineseCLIPImageProcessor", square(32), crop_size=square(32)),
)


def _rt_detr_v2() -> Any:
    from transformers import RTDetrResNetConfig, RTDetrV2Config

    backbone = RTDetrResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 24, 32, 48],
        depths=[1, 1, 1, 1],
        layer_type="bottleneck",
        out_features=["stage2", "stage3", "stage4"],
        out_indices=[2, 3, 4],
    )
    return RTDetrV2Config(
        num_queries=10,
        d_model=32,
        encoder_hidden_dim=32,
        encoder_in_channels=[24, 32, 48],
        encoder_layers=1,
        encoder_ffn_dim=FFN,
        encoder_attention_heads=HEADS,
        decoder_layers=LAYERS,
        decoder_ffn_dim=FFN,
        decoder_attention_heads=HEADS,
        decoder_in_channels=[32, 32, 32],
        num_denoising=0,
        eval_size=None,
        anchor_image_size=None,
        num_labels=5,
        backbone_config=backbone,
    )


_more(
    "rt_detr_v2",
    "object-detection",
    _rt_detr_v2,
    None,
    {"image_processor_type": "RTDetrImageProcessor", "size": square(64), "do_rescale": True, "rescale_factor": 1 / 255},
)
