"""The libraries that take part in a conversion, and the memory that this process used."""

from __future__ import annotations

import platform
import sys
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
_SHARED = ("torch", "onnx", "onnxruntime", "safetensors", "tokenizers", "transformers")
#: Exporter -> what must be importable for a conversion with it to have a chance.
ENTRANCES = {
    "optimum": (*_SHARED, "optimum.exporters.onnx"),
    "mobius": (*_SHARED, "onnx_ir", "onnxscript", "mobius"),
}


def versions() -> dict[str, str]:
    """Library -> version, Python's own included; one that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def check_imports(exporter: str) -> dict[str, str]:
    """The versions, after every library that an exporter needs was really imported."""
    for name in ENTRANCES[exporter]:
        import_module(name)
    return versions()


def peak_rss() -> int | None:
    """The most memory that this process held, in bytes; None on Windows, which does not tell this way."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
