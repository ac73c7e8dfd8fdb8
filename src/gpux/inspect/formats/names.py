"""The format of the weights in a file, from the file's name.

Formats follow the names that ``save_pretrained`` of transformers and diffusers writes, and the extensions that the
Hub itself tags (``huggingface.js``, ``tasks/src/local-apps``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Formats that can be selected, in the order in which a model's formats are listed.
FORMATS = (
    "onnx",
    "safetensors",
    "pytorch",
    "tensorflow",
    "flax",
    "gguf",
    "coreml",
    "openvino",
    "tflite",
    "rust",
)

#: format -> names of files with weights in it; the first match counts, so packages precede extensions
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("coreml", r"\.(mlmodel$|mlpackage/.|mlmodelc/.)"),
        ("onnx", r"\.onnx$"),
        ("safetensors", r"\.safetensors$"),
        ("openvino", r"(^|/)(openvino_[^/]*|openvino/[^/]+)\.(xml|bin)$"),
        # TensorFlow's checkpoints are `model.ckpt.index` and beside it; a bare `.ckpt` is PyTorch Lightning's
        ("tensorflow", r"\.(h5|keras)$|(^|/)saved_model\.pb$|\.ckpt(-\d+)?\.(index|meta|data-\d+-of-\d+)$"),
        ("pytorch", r"(^|/)((diffusion_|open_clip_)?pytorch_model|adapter_model|model|consolidated)[^/]*\.bin$"),
        ("pytorch", r"\.(pt|pth|ckpt)$"),
        ("flax", r"\.msgpack$"),
        ("gguf", r"\.gguf$"),
        ("tflite", r"\.tflite$"),
        ("rust", r"\.ot$"),
    )
)

#: State of a training run, written by transformers' ``Trainer`` and accelerate: tensors that are not weights.
_TRAINING = re.compile(
    r"(^|/)((optimizer|training_args|scheduler|rng_state|random_states|scaler)[^/]*\.(pt|pth|bin|pkl|safetensors)"
    r"|trainer_state\.json)$"
)


def format_of(path: str) -> str | None:
    """The format of the weights in a file; None if it contains none and is not inside a package of weights."""
    if is_training_state(path):
        return None
    return next((name for name, pattern in _PATTERNS if pattern.search(path)), None)


def is_training_state(path: str) -> bool:
    """Whether a file is optimizer state or similar, which a run does not need."""
    return bool(_TRAINING.search(path))


def weight_formats(paths: Iterable[str]) -> tuple[str, ...]:
    """The formats of the weights among the files, in the order of :data:`FORMATS`."""
    found = {format_of(path) for path in paths}
    return tuple(name for name in FORMATS if name in found)
