"""A tiny Depth Anything with random weights: ``python depth_anything.py FOLDER``, with torch and transformers."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def build(folder: Path) -> None:
    """Write config.json, the weights and preprocessor_config.json; pictures keep their proportions."""
    import torch
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        mlp_ratio=2,
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 16, 24, 24],
        fusion_hidden_size=16,
        head_hidden_size=8,
    )
    model = DepthAnythingForDepthEstimation(config)
    for name, parameter in model.named_parameters():
        if "backbone" not in name:  # as they are, depths are nearly zero
            torch.nn.init.normal_(parameter, 0.1, 0.2)
    model.save_pretrained(folder)
    settings = {
        "image_processor_type": "DPTImageProcessor",
        "size": {"height": 56, "width": 56},
        "keep_aspect_ratio": True,
        "ensure_multiple_of": 14,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


if __name__ == "__main__":
    build(Path(sys.argv[1]))
