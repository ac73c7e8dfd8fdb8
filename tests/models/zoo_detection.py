"""Vision models with located outputs: boxes, masks, depth, keypoints."""

from __future__ import annotations

from typing import Any

from tests.models.zoo_entries import (
    FFN,
    HEADS,
    HF,
    IC,
    LABELS,
    LAYERS,
    H,
    add,
)
from tests.models.zoo_processors import image_processor, square
from tests.models.zoo_sizes import (
    vit_sizes,
)

add(
    "segformer",
    ["semantic-segmentation", "image-segmentation", IC],
    dict(
        num_encoder_blocks=4,
        depths=[1, 1, 1, 1],
        sr_ratios=[8, 4, 2, 1],
        hidden_sizes=[16, 16, 32, 32],
        num_attention_heads=[1, 1, 2, 2],
        mlp_ratios=[2, 2, 2, 2],
        decoder_hidden_size=32,
        **LABELS,
    ),
    None,
    image_processor("SegformerImageProcessor", square(64), do_reduce_labels=False),
)
add(
    "dpt",
    ["depth-estimation", "semantic-segmentation"],
    vit_sizes(
        hidden_size=32,
        image_size=32,
        patch_size=16,
        num_hidden_layers=4,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 24, 24],
        fusion_hidden_size=16,
        is_hybrid=False,
        auxiliary_loss_weight=0.4,
        **LABELS,
    ),
    None,
    image_processor("DPTImageProcessor", square(32), keep_aspect_ratio=False),
)
add(
    "mgp-str",
    HF,
    {
        "image_size": [32, 64],
        "patch_size": 8,
        "hidden_size": H,
        "num_hidden_layers": LAYERS,
        "mlp_ratio": 2.0,
        "num_attention_heads": HEADS,
        "max_token_length": 9,
        "num_character_labels": 38,
        "num_bpe_labels": 50,
        "num_wordpiece_labels": 50,
    },
    None,
    image_processor("ViTImageProcessor", {"height": 32, "width": 64}),
)


def _vitpose() -> Any:
    from transformers import VitPoseConfig
    from transformers.models.vitpose_backbone import VitPoseBackboneConfig

    back = VitPoseBackboneConfig(
        image_size=[32, 32],
        patch_size=[8, 8],
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        mlp_ratio=2,
        out_indices=[2],
        out_features=["stage2"],
    )
    return VitPoseConfig(backbone_config=back, num_labels=7, use_simple_decoder=True, scale_factor=2)


add(
    "vitpose",
    "keypoint-detection",
    lambda: _vitpose(),
    None,
    {"image_processor_type": "VitPoseImageProcessor", "size": square(32)},
)


def detr(cls: str) -> Any:
    import transformers

    one = transformers.ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 24, 32, 48],
        depths=[1, 1, 1, 1],
        layer_type="bottleneck",
        out_features=["stage1", "stage2", "stage3", "stage4"],
        out_indices=[1, 2, 3, 4],
    )
    return getattr(transformers, cls)(
        use_timm_backbone=False,
        backbone=None,
        use_pretrained_backbone=False,
        backbone_config=one,
        num_queries=6,
        d_model=H,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_ffn_dim=FFN,
        decoder_ffn_dim=FFN,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        num_labels=5,  # 8: the mask head's GroupNorm requires it
    )


DETR_PROCESSOR = image_processor(
    "DetrImageProcessor", {"shortest_edge": 64, "longest_edge": 96}, format="coco_detection"
)
add("detr", ["object-detection", "image-segmentation"], lambda: detr("DetrConfig"), None, DETR_PROCESSOR)
add("table-transformer", "object-detection", lambda: detr("TableTransformerConfig"), None, DETR_PROCESSOR)


def _rt_detr(cls: str) -> Any:
    import transformers

    kw = {
        "num_queries": 10,
        "d_model": 32,
        "encoder_hidden_dim": 32,
        "encoder_in_channels": [24, 32, 48],
        "encoder_layers": 1,
        "encoder_ffn_dim": FFN,
        "encoder_attention_heads": HEADS,
        "decoder_layers": LAYERS,
        "decoder_ffn_dim": FFN,
        "decoder_attention_heads": HEADS,
        "decoder_in_channels": [32, 32, 32],
        "num_denoising": 0,
        "eval_size": None,
        "anchor_image_size": None,
        "num_labels": 5,
    }
    if cls == "DFineConfig":
        from transformers import HGNetV2Config

        kw["backbone_config"] = HGNetV2Config(
            stem_channels=[3, 8, 16],
            stage_in_channels=[16, 16, 24, 32],
            stage_mid_channels=[8, 8, 16, 16],
            stage_out_channels=[16, 24, 32, 48],
            hidden_sizes=[16, 24, 32, 48],
            stage_num_blocks=[1, 1, 1, 1],
            stage_numb_of_layers=[2, 2, 2, 2],
            out_features=["stage2", "stage3", "stage4"],
            out_indices=[2, 3, 4],
            return_idx=[1, 2, 3],
        )
        kw["hidden_expansion"] = 0.5
    else:
        from transformers import RTDetrResNetConfig

        kw["backbone_config"] = RTDetrResNetConfig(
            embedding_size=16,
            hidden_sizes=[16, 24, 32, 48],
            depths=[1, 1, 1, 1],
            layer_type="bottleneck",
            out_features=["stage2", "stage3", "stage4"],
            out_indices=[2, 3, 4],
        )
    return getattr(transformers, cls)(**kw)


_RT_PROCESSOR = {
    "image_processor_type": "RTDetrImageProcessor",
    "size": square(64),
    "do_rescale": True,
    "rescale_factor": 1 / 255,
}
add("rt_detr", "object-detection", lambda: _rt_detr("RTDetrConfig"), None, _RT_PROCESSOR)
add("d_fine", "object-detection", lambda: _rt_detr("DFineConfig"), None, _RT_PROCESSOR)


def _maskformer() -> Any:
    from transformers import DetrConfig, MaskFormerConfig, SwinConfig

    swin = SwinConfig(
        image_size=64,
        patch_size=4,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[2, 2, 4, 4],
        window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    dec = DetrConfig(
        d_model=32,
        encoder_layers=1,
        decoder_layers=LAYERS,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=6,
    )
    return MaskFormerConfig(
        backbone_config=swin, decoder_config=dec, fpn_feature_size=32, mask_feature_size=32, num_labels=5
    )


add(
    "maskformer",
    "image-segmentation",
    _maskformer,
    None,
    image_processor("MaskFormerImageProcessor", {"shortest_edge": 64, "longest_edge": 96}),
)
