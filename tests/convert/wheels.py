"""Tiny wheels with the names of a toolchain's packages, so that pip itself can be run without a network."""

from __future__ import annotations

import zipfile
from pathlib import Path

#: Distribution -> importable module, for every module of gpux's own converters.
PACKAGES = {
    "torch": "torch",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "safetensors": "safetensors",
    "tokenizers": "tokenizers",
    "transformers": "transformers",
    "optimum-onnx": "optimum/exporters/onnx",
    "mobius-onnx": "mobius/tasks",
    "onnx-ir": "onnx_ir",
    "onnxscript": "onnxscript",
}


def write_wheels(folder: Path, *, local: str = "") -> str:
    """Write a wheel of each package; returns the text of a requirement file for them.

    ``local`` is torch's local version, as wheels of its own index have it.
    """
    for name, module in PACKAGES.items():
        write_wheel(folder, name, "1.0" + (local if name == "torch" else ""), module)
    return "# torch first\n" + "".join(f"{name}==1.0\n" for name in PACKAGES)


def write_wheel(folder: Path, name: str, version: str, module: str, text: str = "") -> None:
    """Write the wheel of a distribution with one module."""
    folder.mkdir(parents=True, exist_ok=True)
    base = f"{name.replace('-', '_')}-{version}"
    info = f"{base}.dist-info"
    files = {
        f"{module}/__init__.py": text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{base}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
