"""Finds the NVIDIA driver and libraries that the CUDA execution provider needs and that cannot be loaded.

onnxruntime's exception says only that the provider did not start; the missing library is in its log. Requirements:
https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
#: major version of CUDA -> (library, its own major version); cuDNN 9 works with both
_LIBRARIES = {
    12: (("cudart", 12), ("cublas", 12), ("cublasLt", 12), ("cufft", 11), ("curand", 10), ("cudnn", 9)),
    13: (("cudart", 13), ("cublas", 13), ("cublasLt", 13), ("cufft", 12), ("curand", 10), ("cudnn", 9)),
}


def missing(version: str | None, load: Callable[[str], object] = ctypes.CDLL) -> list[str]:
    """Names of the driver and libraries that cannot be loaded.

    Args:
        version: the CUDA version that onnxruntime was built with; if it is unknown, only the driver is tried.
        load: loads a library by name, or raises OSError.
    """
    major = int((version or "0").split(".")[0] or 0)
    names = [_DRIVER, *(_file(name, number) for name, number in _LIBRARIES.get(major, ()))]
    return [name for name in names if not _loads(name, load)]


def advice(names: list[str]) -> str:
    """A hint for installing missing libraries."""
    if _DRIVER in names:
        return "Install the NVIDIA driver (in a container: start it with the GPU, `--gpus all`)."
    return "`pip install 'onnxruntime-gpu[cuda,cudnn]'` brings CUDA and cuDNN."


def _file(name: str, major: int) -> str:
    return f"{name}64_{major}.dll" if sys.platform == "win32" else f"lib{name}.so.{major}"


def _loads(name: str, load: Callable[[str], object]) -> bool:
    try:
        load(name)
    except OSError:
        return False
    return True
