"""The converted graphs of tests/models/digits, so that tests have a real speech model without a toolchain.

The graphs are stored without their weights, which are those of ``model.safetensors``: initializers name their tensors.

    python -m tests.models.digits_onnx VARIANT   # a stored variant of `gpux pull ./tests/models/digits`
"""

from __future__ import annotations

import lzma
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.numpy import load_file

from gpux.model.variant import Proof, StoredFile, StoredModel
from gpux.store.manifest import MANIFEST, read_manifest

SOURCE = Path(__file__).with_name("digits")
GRAPHS = Path(__file__).with_name("digits_onnx")
_LEAST = 512  #: bytes of a weight that is left out
_TURNED = "transposed "


def digits(folder: Path) -> StoredModel:
    """Write the variant; it transcribes docs/notebooks/digits.flac as "three one four one five"."""
    folder.mkdir(parents=True)
    weights = load_file(SOURCE / "model.safetensors")
    for packed in GRAPHS.glob("*.onnx.xz"):
        model = onnx.load_from_string(lzma.decompress(packed.read_bytes()))
        for tensor in model.graph.initializer:
            if name := tensor.doc_string:
                found = weights[name.removeprefix(_TURNED)]
                tensor.raw_data = np.ascontiguousarray(found.T if name.startswith(_TURNED) else found).tobytes()
        onnx.save(model, folder / packed.stem)
    for path in (*SOURCE.glob("*.json"), SOURCE / "merges.txt"):
        shutil.copyfile(path, folder / path.name)
    files = tuple(StoredFile(path.name, path.stat().st_size, "") for path in sorted(folder.iterdir()))
    manifest = replace(read_manifest(GRAPHS / MANIFEST), scheme="hf", files=files, proof=Proof("proven"))
    return StoredModel(folder, manifest)


def _store(variant: Path) -> None:
    """Write the graphs of a variant without their weights."""
    GRAPHS.mkdir(exist_ok=True)
    weights = load_file(SOURCE / "model.safetensors")
    for path in variant.glob("*.onnx"):
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) < _LEAST:
                continue
            tensor.doc_string = _name(numpy_helper.to_array(tensor), weights)
            tensor.ClearField("raw_data")
        (GRAPHS / f"{path.name}.xz").write_bytes(lzma.compress(model.SerializeToString(), preset=9))
    manifest = (variant / MANIFEST).read_text(encoding="utf-8")
    (GRAPHS / MANIFEST).write_text(manifest.replace(str(SOURCE), "tests/digits"), encoding="utf-8")


def _name(values: NDArray[Any], weights: dict[str, NDArray[Any]]) -> str:
    for name, weight in weights.items():
        if np.array_equal(weight, values):
            return name
        if weight.ndim == 2 and np.array_equal(weight.T, values):
            return _TURNED + name
    raise ValueError(f"{values.shape}: not a weight of the model")


if __name__ == "__main__":
    _store(Path(sys.argv[1]))
