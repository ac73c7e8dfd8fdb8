"""Pictures and settings that image processors are compared on; imported by tests and, in the toolchain, by
``scripts/update_image_processor_answers.py``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

#: width and height: landscape, portrait, square, and smaller than most targets
SIZES = ((61, 43), (35, 58), (48, 48), (9, 7))

SMALL = {"height": 30, "width": 26}
CROP = {"height": 24, "width": 20}
PAD = {"height": 64, "width": 64}
GRID = [[20, 40], [40, 20], [40, 40], [60, 20], [20, 60]]
PAN = {"pan_and_scan_min_crop_size": 10, "pan_and_scan_max_num_crops": 4, "pan_and_scan_min_ratio_to_activate": 1.2}
EDGE = {"shortest_edge": 28}
EDGES = {"shortest_edge": 28, "longest_edge": 37}

#: (class, settings over the defaults of the class)
CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("BeitImageProcessor", {"size": 33, "crop_size": 24}),
    ("BeitImageProcessor", {"size": SMALL, "do_center_crop": False, "reduce_labels": True}),
    ("BitImageProcessor", {"size": EDGE, "crop_size": 24}),
    ("BlipImageProcessor", {"size": 24}),
    ("CLIPImageProcessor", {"size": 30, "crop_size": 24}),
    ("CLIPImageProcessor", {"size": SMALL, "crop_size": CROP, "resample": 2, "do_normalize": False}),
    ("CLIPImageProcessor", {"size": 30, "crop_size": 24, "use_square_size": True}),
    ("CLIPImageProcessor", {"do_resize": False, "crop_size": [40, 40], "image_mean": None}),
    ("ChineseCLIPImageProcessor", {"size": SMALL, "crop_size": CROP}),
    ("ConditionalDetrImageProcessor", {"size": EDGES}),
    ("ConvNextImageProcessor", {"size": {"shortest_edge": 30}}),
    ("ConvNextImageProcessor", {"size": 32, "crop_pct": 0.95, "resample": 3}),
    ("ConvNextImageProcessor", {"size": 384, "do_normalize": False}),
    ("DPTImageProcessor", {"size": 32}),
    ("DPTImageProcessor", {"size": [40, 56], "keep_aspect_ratio": True, "ensure_multiple_of": 14}),
    ("DPTImageProcessor", {"size": SMALL, "do_pad": True, "size_divisor": 16}),
    ("DeformableDetrImageProcessor", {"size": 28, "max_size": 37}),
    ("DeiTImageProcessor", {"size": 30, "crop_size": 24}),
    ("DetrImageProcessor", {"size": EDGES}),
    ("DetrImageProcessor", {"size": 28, "max_size": 200, "pad_and_return_pixel_mask": False}),
    ("DetrImageProcessor", {"size": {"max_height": 40, "max_width": 30}, "pad_size": {"height": 44, "width": 50}}),
    ("DetrImageProcessor", {"size": SMALL, "do_normalize": False}),
    ("EfficientNetImageProcessor", {"size": 29}),
    ("EfficientNetImageProcessor", {"size": 30, "do_center_crop": True, "crop_size": 24, "include_top": False}),
    ("EfficientNetImageProcessor", {"size": 20, "rescale_offset": True, "rescale_factor": 1 / 127.5}),
    ("GLPNImageProcessor", {"size_divisor": 6}),
    ("GroundingDinoImageProcessor", {"size": EDGES}),
    ("ImageGPTImageProcessor", {"size": 16, "clusters": [[-1.0, -0.5, 0.0], [0.5, 0.5, 0.5], [0.1, -0.2, 0.9]]}),
    ("LayoutLMv2ImageProcessor", {"size": 24, "apply_ocr": False}),
    ("LayoutLMv3ImageProcessor", {"size": 24, "apply_ocr": False}),
    ("LevitImageProcessor", {"size": 24, "crop_size": 24}),
    ("Mask2FormerImageProcessor", {"size": EDGES}),
    ("MaskFormerImageProcessor", {"size": EDGES, "size_divisor": 16}),
    ("MaskFormerImageProcessor", {"size": 28, "max_size": 40, "size_divisor": 0, "pad_size": PAD}),
    ("MobileNetV1ImageProcessor", {"size": 30, "crop_size": 24}),
    ("MobileNetV2ImageProcessor", {"size": 30, "crop_size": 24}),
    ("MobileViTImageProcessor", {"size": 26, "crop_size": 24}),
    ("MobileViTImageProcessor", {"size": 20, "crop_size": 24, "do_flip_channel_order": False}),
    ("OneFormerImageProcessor", {"size": EDGES}),
    ("OwlViTImageProcessor", {"size": [24, 24]}),
    ("PoolFormerImageProcessor", {"size": 24, "crop_size": 24}),
    ("PoolFormerImageProcessor", {"size": SMALL, "crop_size": 24, "crop_pct": 0.95}),
    ("PvtImageProcessor", {"size": 24}),
    ("RTDetrImageProcessor", {"size": {"height": 24, "width": 24}}),
    ("RTDetrImageProcessor", {"size": EDGES, "do_pad": True, "do_normalize": True}),
    ("SegformerImageProcessor", {"size": 24, "reduce_labels": True}),
    ("SegformerImageProcessor", {"do_resize": False}),
    ("SiglipImageProcessor", {"size": {"height": 24, "width": 24}}),
    ("Swin2SRImageProcessor", {}),
    ("Swin2SRImageProcessor", {"size_divisor": 6, "rescale_factor": 0.01}),
    ("ViTImageProcessor", {"size": 24}),
    ("ViTImageProcessor", {"size": [24, 30], "resample": 1, "do_rescale": False}),
    ("ViTImageProcessor", {"size": 24, "do_rescale": False, "do_normalize": False}),
    ("YolosImageProcessor", {"size": EDGES}),
    ("YolosImageProcessor", {"size": 50, "max_size": 70}),
    ("BridgeTowerImageProcessor", {"size": 40, "size_divisor": 8}),
    ("BridgeTowerImageProcessor", {"size": EDGE, "do_center_crop": False, "size_divisor": 4}),
    ("ChameleonImageProcessor", {"size": 30, "crop_size": 24}),
    ("DINOv3ViTImageProcessor", {"size": SMALL}),
    ("DINOv3ViTImageProcessor", {"size": {"height": 60, "width": 20}}),
    ("DonutImageProcessor", {"size": [30, 40]}),
    ("DonutImageProcessor", {"size": {"height": 40, "width": 30}, "do_align_long_axis": True}),
    ("EfficientFormerImageProcessor", {"size": 30, "crop_size": 24}),
    ("EfficientLoFTRImageProcessor", {"size": SMALL}),
    ("EomtImageProcessor", {"size": {"shortest_edge": 28, "longest_edge": 28}, "do_pad": True}),
    ("EomtImageProcessor", {"size": EDGES}),
    ("FlavaImageProcessor", {"size": 30, "crop_size": 24}),
    ("Gemma3ImageProcessor", {"size": 24}),
    ("LightGlueImageProcessor", {"size": SMALL, "do_grayscale": False}),
    ("LlavaImageProcessor", {"size": 30, "crop_size": 24}),
    ("LlavaImageProcessor", {"size": 30, "crop_size": 24, "do_pad": True}),
    ("NougatImageProcessor", {"size": {"height": 40, "width": 30}}),
    ("NougatImageProcessor", {"size": {"height": 30, "width": 40}, "do_align_long_axis": True}),
    ("Owlv2ImageProcessor", {"size": {"height": 24, "width": 24}}),
    ("Owlv2ImageProcessor", {"size": {"height": 75, "width": 75}, "do_pad": False}),
    ("PerceiverImageProcessor", {"size": 24, "crop_size": 30}),
    ("Pix2StructImageProcessor", {"max_patches": 12, "patch_size": {"height": 8, "width": 8}}),
    ("Pix2StructImageProcessor", {"max_patches": 40, "patch_size": {"height": 16, "width": 16}, "do_normalize": True}),
    ("PixtralImageProcessor", {"size": {"longest_edge": 32}, "patch_size": 8}),
    ("PromptDepthAnythingImageProcessor", {"size": 28, "keep_aspect_ratio": True, "ensure_multiple_of": 14}),
    ("Qwen2VLImageProcessor", {"min_pixels": 256, "max_pixels": 1024, "patch_size": 8}),
    ("SamImageProcessor", {"size": {"longest_edge": 40}, "pad_size": {"height": 40, "width": 40}}),
    ("SegGptImageProcessor", {"size": SMALL}),
    ("Siglip2ImageProcessor", {"patch_size": 8, "max_num_patches": 20}),
    ("SuperGlueImageProcessor", {"size": SMALL}),
    ("SuperPointImageProcessor", {"size": SMALL, "do_grayscale": True}),
    ("SuperPointImageProcessor", {"size": SMALL}),
    ("TextNetImageProcessor", {"size": 30, "size_divisor": 8}),
    ("TvpImageProcessor", {"size": {"longest_edge": 36}, "crop_size": 30, "pad_size": {"height": 40, "width": 40}}),
    ("ViTHybridImageProcessor", {"size": 30, "crop_size": 24}),
    ("VideoMAEImageProcessor", {"size": 30, "crop_size": 24}),
    ("ViltImageProcessor", {"size": 40, "size_divisor": 8}),
    ("VitMatteImageProcessor", {}),
    ("DeepseekVLImageProcessor", {"size": 24}),
    ("Gemma3ImageProcessor", {"size": 24, "do_pan_and_scan": True} | PAN),
    ("Glm4vImageProcessor", {"size": {"shortest_edge": 512, "longest_edge": 2048}, "patch_size": 3}),
    ("GotOcr2ImageProcessor", {"size": 24}),
    ("GotOcr2ImageProcessor", {"size": 16, "crop_to_patches": True, "max_patches": 6}),
    ("Idefics2ImageProcessor", {"size": {"shortest_edge": 20, "longest_edge": 50}, "do_image_splitting": True}),
    ("Idefics2ImageProcessor", {"size": SMALL}),
    ("Idefics3ImageProcessor", {"size": {"longest_edge": 50}, "max_image_size": {"longest_edge": 20}}),
    ("Idefics3ImageProcessor", {"max_image_size": {"longest_edge": 20}, "do_image_splitting": False, "do_pad": False}),
    ("InstructBlipVideoImageProcessor", {"size": 24}),
    ("JanusImageProcessor", {"size": 24, "image_mean": [0.1, 0.5, 0.9]}),
    ("Kosmos2_5ImageProcessor", {"max_patches": 12, "patch_size": {"height": 8, "width": 8}}),
    ("LlavaNextImageProcessor", {"size": 20, "crop_size": 20, "image_grid_pinpoints": GRID}),
    ("LlavaOnevisionImageProcessor", {"size": 20, "image_grid_pinpoints": GRID}),
    ("LlavaOnevisionImageProcessor", {"size": {"height": 20, "width": 20}, "image_grid_pinpoints": GRID}),
    ("SmolVLMImageProcessor", {"size": {"longest_edge": 44}, "max_image_size": {"longest_edge": 24}}),
    ("VitPoseImageProcessor", {"size": {"height": 32, "width": 24}}),
    ("VivitImageProcessor", {"size": 30, "crop_size": 24}),
    ("ZoeDepthImageProcessor", {"size": {"height": 40, "width": 56}, "ensure_multiple_of": 8}),
)  # fmt: skip


#: preprocessor_config.json and config.json as repositories have them, from several years of transformers.
FILES: dict[str, list[dict[str, Any]]] = json.loads(
    Path(__file__).with_name("image_files.json").read_text(encoding="utf-8")
)

#: Classes that take two or more pictures at once: frames, or two that are compared.
TOGETHER = (
    "EfficientLoFTRImageProcessor",
    "InstructBlipVideoImageProcessor",
    "LightGlueImageProcessor",
    "SuperGlueImageProcessor",
    "TvpImageProcessor",
    "VideoMAEImageProcessor",
    "VivitImageProcessor",
)
#: Classes whose pixel values have parts or patches where others have a batch.
WHOLE = ("GotOcr2ImageProcessor", "Glm4vImageProcessor", "Qwen2VLImageProcessor", "VitPoseImageProcessor")
#: Outputs that no graph reads.
OTHER_OUTPUTS = (
    "original_sizes",
    "reshaped_input_sizes",
    "image_sizes",
    "num_crops",
    "num_patches",
    "batch_num_images",
)


def together(picture: Image.Image) -> list[Image.Image]:
    """A picture and another one of the same size."""
    return [picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]


def boxes(picture: Image.Image) -> list[list[float]]:
    """Two boxes of a picture, the second partly outside: left, top, width, height."""
    return [[0.0, 0.0, float(picture.width), float(picture.height)], [3.5, -2.0, picture.width * 0.6, 7.25]]


def pictures() -> list[Image.Image]:
    """RGB pictures of :data:`SIZES`: gradients with noise, edges and flat parts."""
    rng = np.random.default_rng(16)
    found = []
    for width, height in SIZES:
        rows, columns = np.mgrid[0:height, 0:width]
        waves = np.stack([np.sin(columns / 3 + shift) + np.cos(rows / (4 + shift)) for shift in range(3)], axis=-1)
        pixels = 128 + 50 * waves + rng.integers(-27, 28, (height, width, 3))
        pixels[: height // 4, : width // 3] = (255, 0, 128)
        found.append(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    return found


def label(index: int, class_name: str) -> str:
    """The name of a case in files."""
    return f"{index:03d}-{class_name}"


def summary(key: str, array: np.ndarray) -> dict[str, Any]:
    """A small part of an output: at most 24 evenly spaced values, the shape, and two sums."""
    flat = array.reshape(-1)
    picked = flat[np.linspace(0, flat.size - 1, min(flat.size, 24)).astype(int)]
    wide = flat.astype(np.float64)
    return {key: picked, f"{key}#": np.array([*array.shape, wide.sum(), np.square(wide).sum()], np.float64)}
