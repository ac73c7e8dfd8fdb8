"""Versions of the libraries that take part in a conversion."""

from __future__ import annotations

import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = (
    "torch",
    "transformers",
    "optimum",
    "optimum-onnx",
    "onnx",
    "onnxruntime",
    "numpy",
    "safetensors",
    "tokenizers",
    "accelerate",
)
#: What must be importable for a conversion to have a chance.
ENTRANCES = ("torch", "onnx", "onnxruntime", "safetensors", "tokenizers", "transformers", "optimum.exporters.onnx")


def versions() -> dict[str, str]:
    """Library -> version, Python's own included; one that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def check_imports() -> dict[str, str]:
    """The versions, after every library was really imported."""
    for name in ENTRANCES:
        import_module(name)
    return versions()
