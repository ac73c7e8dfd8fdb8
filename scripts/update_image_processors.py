"""Write src/gpux/processors/image/classes.json: settings of the image processor classes of transformers, and the class
of each model type.

Only classes that prepare pictures with Pillow and numpy are in the table ("slow" ones); a class that exists only with
torchvision is listed by its name. Run with the interpreter of the toolchain ``optimum``:
``python scripts/update_image_processors.py``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

FILE = Path(__file__).resolve().parents[1] / "src/gpux/processors/image/classes.json"
SIZES = ("size", "crop_size", "pad_size", "mask_size", "mask_pad_size")
#: In a file, these say what wrote it, not how a picture is prepared.
OMITTED = (
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "_processor_class",
    "metadata",
    "clusters",
)
#: A class of torchvision alone, with its settings in transformers 4.57 and 5.23.
DINOV3 = {
    "defaults": {
        "do_resize": True,
        "size": {"height": 224, "width": 224},
        "resample": 2,
        "do_center_crop": None,
        "crop_size": None,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
    "null": ["size", "image_mean", "image_std"],
    "sizes": {"size": {"int": {"height": 17, "width": 17}, "list": {"height": 17, "width": 19}}},
}


def main() -> None:
    """Write the table."""
    names = sorted(
        name for name in dir(transformers) if name.endswith("ImageProcessor") and name != "AutoImageProcessor"
    )
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "classes.json").write_text("{}")
        given = {"OneFormerImageProcessor": {"repo_path": folder, "class_info_file": "classes.json"}}
        for name in names:
            found = getattr(transformers, name)
            if name.startswith("Base") or not isinstance(found, type):
                continue
            try:
                table[name] = _row(found, given.get(name, {}))
            except Exception as exc:  # noqa: BLE001 - a class that needs a library that the toolchain lacks
                print(f"{name}: {type(exc).__name__}: {exc}", file=sys.stderr)
    kinds, torchvision = {}, []
    source = Path(transformers.__file__).parent / "models/auto/image_processing_auto.py"
    assert source.is_file()
    for kind, (slow, _fast) in sorted(IMAGE_PROCESSOR_MAPPING_NAMES.items()):
        if slow:
            kinds[kind] = slow
    for line in source.read_text().splitlines():  # the mapping drops these names where torchvision is absent
        if line.strip().startswith('("') and "(None, " in line:
            kind, name = line.split('"')[1], line.split('"')[3].removesuffix("Fast")
            kinds[kind] = name
            torchvision.append(name)
    table["DINOv3ViTImageProcessor"] = DINOV3
    document = {
        "transformers": transformers.__version__,
        "model_types": dict(sorted(kinds.items())),
        "only_torchvision": sorted(set(torchvision)),
        "classes": table,
    }
    FILE.write_text(_lines(document), encoding="utf-8")
    print(f"{FILE.name}: {len(table)} classes, {len(kinds)} model types", file=sys.stderr)


def _lines(document: dict[str, Any]) -> str:
    """JSON with a line for each class and for each other entry."""
    parts = []
    for key, value in document.items():
        if isinstance(value, dict) and key == "classes":
            rows = [f"  {json.dumps(name)}: {json.dumps(row, default=_plain)}" for name, row in value.items()]
            parts.append(f" {json.dumps(key)}: {{\n" + ",\n".join(rows) + "\n }")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _row(found: type, given: dict[str, Any]) -> dict[str, Any]:
    """Defaults of a class, the keys for which null means the default, and what a bare number becomes as a size."""
    defaults = {key: value for key, value in found(**given).to_dict().items() if key not in OMITTED}
    for key in given:
        defaults.pop(key, None)
    row: dict[str, Any] = {"defaults": defaults}
    null = [
        key
        for key, value in defaults.items()
        if value is not None and _with(found, given, key, **{key: None}) is not None
    ]
    if null:
        row["null"] = null
    sizes: dict[str, Any] = {}
    for key in (key for key in SIZES if key in defaults):
        tries: dict[str, dict[str, Any]] = {"int": {key: 17}, "list": {key: [17, 19]}}
        if key == "size":
            tries["max"] = {key: 17, "max_size": 23}
        results = {
            kind: value for kind, extra in tries.items() if isinstance(value := _with(found, given, key, **extra), dict)
        }
        if results:
            sizes[key] = results
    if sizes:
        row["sizes"] = sizes
    return row


def _with(found: type, given: dict[str, Any], key: str, **extra: Any) -> Any:
    try:
        return found(**{**given, **extra}).to_dict().get(key)
    except Exception:  # noqa: BLE001 - the class refuses the value
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return getattr(value, "value", None) if hasattr(value, "value") else str(value)


if __name__ == "__main__":
    main()
