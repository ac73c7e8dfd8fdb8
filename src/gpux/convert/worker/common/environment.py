"""The libraries that take part in a conversion, and the memory that this process used."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = (
    "torch",
    "transformers",
    "optimum",
    "optimum-onnx",
    "mobius-onnx",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "numpy",
    "safetensors",
    "tokenizers",
    "accelerate",
)


def versions() -> dict[str, str]:
    """Library -> version, Python's own included; libraries that are not installed are omitted."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def check_imports(modules: Iterable[str]) -> dict[str, str]:
    """The versions, after these modules were imported.

    Raises:
        ImportError: one of them cannot be imported.
    """
    for name in modules:
        import_module(name)
    return versions()


def peak_rss() -> int | None:
    """Peak resident memory of this process in bytes; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
