"""Vision models with one output per image: classes, features, pixels."""

from __future__ import annotations

from tests.models.zoo_entries import (
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

add("vit", [IC, HF], vit_sizes(**LABELS), None, image_processor("ViTImageProcessor", square(32)))
add(
    "beit",
    IC,
    vit_sizes(use_absolute_position_embeddings=False, use_relative_position_bias=True, **LABELS),
    None,
    image_processor("BeitImageProcessor", square(32), do_center_crop=False),
)
add(
    "data2vec-vision",
    IC,
    vit_sizes(use_relative_position_bias=True, **LABELS),
    None,
    image_processor("BeitImageProcessor", square(32), do_center_crop=False),
)
add(
    "dinov2",
    [HF, IC],
    vit_sizes(patch_size=8, mlp_ratio=2, **LABELS),
    None,
    image_processor("BitImageProcessor", {"shortest_edge": 36}, crop_size=square(32), do_center_crop=True),
)
add(
    "vit_mae",
    HF,
    vit_sizes(
        decoder_hidden_size=32,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=48,
        mask_ratio=0.0,
    ),
    None,
    image_processor("ViTImageProcessor", square(32)),
)
add("vit_msn", IC, vit_sizes(**LABELS), None, image_processor("ViTImageProcessor", square(32)))
add(
    "levit",
    IC,
    dict(
        image_size=32,
        kernel_size=3,
        stride=2,
        patch_size=16,
        hidden_sizes=[16, 24, 32],
        num_attention_heads=[2, 3, 4],
        depths=[1, 1, 1],
        key_dim=[8, 8, 8],
        drop_path_rate=0,
        mlp_ratio=[2, 2, 2],
        attention_ratio=[2, 2, 2],
        **LABELS,
    ),
    None,
    image_processor("LevitImageProcessor", {"shortest_edge": 36}, crop_size=square(32), do_center_crop=True),
)
add(
    "cvt",
    IC,
    dict(
        embed_dim=[16, 32, 48],
        num_heads=[1, 2, 3],
        depth=[1, 2, 3],
        patch_sizes=[7, 3, 3],
        mlp_ratio=[2.0, 2.0, 2.0],
        drop_path_rate=[0.0, 0.0, 0.1],
        **LABELS,
    ),
    None,
    image_processor("ConvNextImageProcessor", {"shortest_edge": 64}),
)
add(
    "convnext",
    [IC, HF],
    dict(hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], **LABELS),
    None,
    image_processor("ConvNextImageProcessor", {"shortest_edge": 64}),
)
add(
    "resnet",
    [IC, HF],
    dict(embedding_size=16, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], layer_type="bottleneck", **LABELS),
    None,
    image_processor("ConvNextImageProcessor", {"shortest_edge": 64}),
)
add(
    "regnet",
    IC,
    dict(embedding_size=16, hidden_sizes=[16, 24, 32, 48], depths=[1, 1, 1, 1], groups_width=8, **LABELS),
    None,
    image_processor("ConvNextImageProcessor", {"shortest_edge": 64}),
)
add(
    "swin",
    [IC, HF, "masked-im"],
    dict(
        image_size=32,
        patch_size=2,
        embed_dim=16,
        depths=[2, 2],
        num_heads=[2, 4],
        window_size=4,
        encoder_stride=4,
        **LABELS,
    ),
    None,
    image_processor("ViTImageProcessor", square(32)),
)
add(
    "swin2sr",
    "image-to-image",
    {
        "image_size": 32,
        "patch_size": 1,
        "embed_dim": 16,
        "depths": [2, 2],
        "num_heads": [2, 2],
        "window_size": 4,
        "upscale": 2,
        "num_channels": 3,
    },
    None,
    {
        "image_processor_type": "Swin2SRImageProcessor",
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_pad": True,
        "pad_size": 8,
    },
)
add(
    "donut-swin",
    HF,
    {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
    None,
    image_processor("DonutImageProcessor", square(32)),
)
add(
    "hiera",
    IC,
    dict(
        image_size=[32, 32],
        patch_size=[3, 3],
        patch_stride=[2, 2],
        patch_padding=[1, 1],
        embed_dim=16,
        depths=[1, 1, 1],
        num_heads=[1, 2, 4],
        query_stride=[2, 2],
        num_query_pool=2,
        masked_unit_size=[4, 4],
        masked_unit_attention=[True, True, False],
        mlp_ratio=2.0,
        **LABELS,
    ),
    None,
    image_processor("BitImageProcessor", {"shortest_edge": 36}, crop_size=square(32), do_center_crop=True),
)
add(
    "pvt",
    IC,
    {
        "image_size": 32,
        "num_encoder_blocks": 2,
        "depths": [1, 1],
        "sequence_reduction_ratios": [2, 1],
        "hidden_sizes": [16, 32],
        "patch_sizes": [4, 2],
        "strides": [4, 2],
        "num_attention_heads": [1, 2],
        "mlp_ratios": [2, 2],
    },
    None,
    image_processor("PvtImageProcessor", square(32)),
)  # PvtConfig reloads only 1000 labels
add(
    "mobilevit",
    [IC, "image-segmentation"],
    dict(
        image_size=64,
        hidden_sizes=[32, 32, 32],
        neck_hidden_sizes=[8, 8, 16, 16, 24, 24, 32],
        num_attention_heads=4,
        mlp_ratio=2.0,
        expand_ratio=2.0,
        output_stride=32,
        aspp_out_channels=16,
        atrous_rates=[6, 12, 18],
        **LABELS,
    ),
    None,
    {
        "image_processor_type": "MobileViTImageProcessor",
        "size": {"shortest_edge": 72},
        "crop_size": square(64),
        "do_flip_channel_order": True,
    },
)
add(
    "mobilenet_v1",
    IC,
    dict(image_size=64, depth_multiplier=0.25, **LABELS),
    None,
    image_processor("MobileNetV1ImageProcessor", {"shortest_edge": 72}, crop_size=square(64)),
)
add(
    "mobilenet_v2",
    IC,
    dict(image_size=64, depth_multiplier=0.25, **LABELS),
    None,
    image_processor("MobileNetV2ImageProcessor", {"shortest_edge": 72}, crop_size=square(64)),
)
add(
    "efficientnet",
    IC,
    dict(
        image_size=64,
        width_coefficient=0.25,
        depth_coefficient=0.1,
        depth_divisor=8,
        hidden_dim=320,
        in_channels=[32, 16, 24],
        out_channels=[16, 24, 40],
        kernel_sizes=[3, 3, 5],
        strides=[1, 2, 2],
        num_block_repeats=[1, 1, 1],
        expand_ratios=[1, 6, 6],
        depthwise_padding=[],
        **LABELS,
    ),
    None,
    image_processor("EfficientNetImageProcessor", square(64)),
)
add(
    "imagegpt",
    "image-classification",
    {"vocab_size": 513, "n_embd": H, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 64},
    None,
    image_processor(
        "ImageGPTImageProcessor",
        square(8),
        clusters=[
            [red / 4 - 1, green / 4 - 1, blue / 4 - 1] for red in range(8) for green in range(8) for blue in range(8)
        ],
    ),
)
