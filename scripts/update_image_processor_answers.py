"""Write tests/processors/image_answers.npz: what transformers' image processors make of the pictures of the tests.

For each case of ``tests/processors/image_cases.py``, picture and output: shape and dtype, evenly spaced values, and the
sum and the sum of squares of all. With ``--all FILE``, every value. Run with the interpreter of the toolchain
``optimum``: ``python scripts/update_image_processor_answers.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "tests/processors/image_answers.npz"
sys.path.insert(0, str(ROOT / "tests/processors"))
import image_cases  # type: ignore[import-not-found]  # noqa: E402 - found through the line above


def main() -> None:
    """Write the file."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", type=Path, help="write every value to this file instead")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for index, (class_name, settings) in enumerate(image_cases.CASES):
        for place, picture in enumerate(image_cases.pictures()):
            try:
                outputs = reference(class_name, settings, picture)
            except Exception as exc:  # noqa: BLE001 - a case that transformers refuses has no answer
                print(f"{class_name} {settings} {place}: {type(exc).__name__}: {exc}", file=sys.stderr)
                continue
            for name, array in outputs.items():
                key = f"{image_cases.label(index, class_name)}/{place}/{name}"
                found |= {key: array} if arguments.all else image_cases.summary(key, array)
    for label, files in image_cases.FILES.items():
        for place, picture in enumerate(image_cases.pictures()[:2]):
            for name, array in of_files(files, picture).items():
                key = f"files-{label}/{place}/{name}"
                found |= {key: array} if arguments.all else image_cases.summary(key, array)
    if arguments.all:
        np.savez_compressed(arguments.all, **found)
        return
    np.savez_compressed(  # few large arrays: each member of the file takes time to open
        FILE,
        names=np.array(list(found)),
        kinds=np.array([array.dtype.str for array in found.values()]),
        lengths=np.array([len(array) for array in found.values()]),
        values=np.concatenate([array.astype(np.float64) for array in found.values()]),
    )


def reference(class_name: str, settings: dict[str, Any], picture: Any) -> dict[str, np.ndarray]:
    """The outputs of transformers for one picture, without the batch axis."""
    if class_name == "DINOv3ViTImageProcessor":
        return {"pixel_values": dinov3(settings, picture)}
    with tempfile.TemporaryDirectory() as folder:
        more: dict[str, Any] = {}
        if class_name == "OneFormerImageProcessor":  # it reads the names of classes, which do not change the pixels
            (Path(folder) / "classes.json").write_text("{}")
            more = {"repo_path": folder, "class_info_file": "classes.json"}
        processor = getattr(transformers, class_name).from_dict(settings | more)
    if class_name in image_cases.TOGETHER:
        given, more = [image_cases.together(picture)], {}
    elif class_name == "VitMatteImageProcessor":
        given, more = picture, {"trimaps": picture.convert("L")}
    elif class_name == "VitPoseImageProcessor":
        given, more = picture, {"boxes": [image_cases.boxes(picture)]}
    else:
        given, more = picture, {}
    batches = processor(given, return_tensors="np", **more)
    outputs = {}
    for name, value in batches.items():
        whole = name == "pixel_values" and class_name in image_cases.WHOLE
        whole = whole or (name == "pixel_values" and bool(settings.get("do_pan_and_scan")))
        array = np.asarray(value) if whole else np.asarray(value)[0]
        if array.dtype.kind in "biuf" and name not in image_cases.OTHER_OUTPUTS:  # OneFormer adds a text
            outputs[name] = array
    return outputs


def of_files(files: list[dict[str, Any]], picture: Any) -> dict[str, np.ndarray]:
    """The outputs of the processor that a folder with these files gives."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in zip(("preprocessor_config.json", "config.json"), files, strict=True):
            (Path(folder) / name).write_text(json.dumps(content))
        processor = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False)
    return {name: np.asarray(value)[0] for name, value in processor(picture, return_tensors="np").items()}


def dinov3(settings: dict[str, Any], picture: Any) -> np.ndarray:
    """The steps of ``DINOv3ViTImageProcessorFast``; torchvision resizes floats by ``interpolate``."""
    values = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] * (1 / 255)
    size = (settings["size"]["height"], settings["size"]["width"])
    values = torch.nn.functional.interpolate(values, size=size, mode="bilinear", align_corners=False, antialias=True)
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    normalized: np.ndarray = ((values - mean) / std)[0].numpy()
    return normalized


if __name__ == "__main__":
    main()
