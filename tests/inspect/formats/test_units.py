from __future__ import annotations

import pytest

from gpux.inspect.formats.units import complete, external_data_of, units
from tests.inspect.formats.listings import COREML, LLAMA, SAVED_MODEL

#: a listing -> its units of more than one file, or with an index, or with shards missing: name -> files
UNITS = {
    "Core ML packages": (
        COREML,
        {
            "Model.mlpackage": "Model.mlpackage/Data/com.apple.CoreML/model.mlmodel"
            " Model.mlpackage/Data/com.apple.CoreML/weights/weight.bin Model.mlpackage/Manifest.json",
            "compiled/Model.mlmodelc": "compiled/Model.mlmodelc/coremldata.bin compiled/Model.mlmodelc/metadata.json"
            " compiled/Model.mlmodelc/model.mil",
        },
    ),
    "a compiled model inside a package": (
        "a.mlpackage/Data/b.mlmodelc/x a.mlpackage/Manifest.json",
        {"a.mlpackage": "a.mlpackage/Data/b.mlmodelc/x a.mlpackage/Manifest.json"},
    ),
    "a SavedModel, without its neighbours": (
        SAVED_MODEL,
        {
            "tf/saved_model.pb": "tf/assets/vocab.txt tf/keras_metadata.pb tf/saved_model.pb"
            " tf/variables/variables.data-00000-of-00001 tf/variables/variables.index"
        },
    ),
    "a SavedModel at the top": (
        "saved_model.pb variables/variables.index config.json",
        {"saved_model.pb": "saved_model.pb variables/variables.index"},
    ),
    "variables without a SavedModel": ("variables/a assets/b", {}),
    "shards with an index": (
        LLAMA,
        {
            "model-*-of-00002.safetensors": "model-00001-of-00002.safetensors model-00002-of-00002.safetensors"
            " model.safetensors.index.json",
            "original/consolidated.*.pth": "original/consolidated.00.pth original/consolidated.01.pth",
        },
    ),
    "shards without an index": (
        "pytorch_model-00001-of-00002.bin pytorch_model-00002-of-00002.bin",
        {"pytorch_model-*-of-00002.bin": "pytorch_model-00001-of-00002.bin pytorch_model-00002-of-00002.bin"},
    ),
    "shards of a variant, both spellings": (
        "model.fp16-00001-of-00001.safetensors model.safetensors.index.fp16.json model.safetensors.index.json"
        " unet/d-00001-of-00001.fp16.safetensors unet/d.safetensors.index.fp16.json",
        {
            "model.fp16-*-of-00001.safetensors": "model.fp16-00001-of-00001.safetensors"
            " model.safetensors.index.fp16.json",
            "unet/d-*-of-00001.fp16.safetensors": "unet/d-00001-of-00001.fp16.safetensors"
            " unet/d.safetensors.index.fp16.json",
        },
    ),
    "two cuts of one model": (
        "m-00001-of-00001.bin m-00001-of-00002.bin m-00002-of-00002.bin",
        {"m-*-of-00002.bin": "m-00001-of-00002.bin m-00002-of-00002.bin"},
    ),
    "split GGUF in a folder": (
        "Q8_0/m-Q8_0-00001-of-00002.gguf Q8_0/m-Q8_0-00002-of-00002.gguf",
        {"Q8_0/m-Q8_0-*-of-00002.gguf": "Q8_0/m-Q8_0-00001-of-00002.gguf Q8_0/m-Q8_0-00002-of-00002.gguf"},
    ),
    "external data of each spelling": (
        "a.onnx a.onnx_data a.onnx_data_1 b.onnx b.onnx.data sub/model.onnx sub/weights.pb weights.pb c.onnx_data",
        {
            "a.onnx": "a.onnx a.onnx_data a.onnx_data_1",
            "b.onnx": "b.onnx b.onnx.data",
            "sub/model.onnx": "sub/model.onnx sub/weights.pb",
        },
    ),
    "OpenVINO": (
        "openvino/openvino_model.xml openvino/openvino_model.bin openvino/lone.xml",
        {"openvino/openvino_model.xml": "openvino/openvino_model.bin openvino/openvino_model.xml"},
    ),
    "a checkpoint of TensorFlow": (
        "model.ckpt-10.index model.ckpt-10.meta model.ckpt-10.data-00000-of-00001 other.ckpt",
        {"model.ckpt-10": "model.ckpt-10.data-00000-of-00001 model.ckpt-10.index model.ckpt-10.meta"},
    ),
}


@pytest.mark.parametrize(("listing", "expected"), UNITS.values(), ids=UNITS)
def test_files_that_form_a_unit(listing: str, expected: dict[str, str]) -> None:
    found = {unit.name: " ".join(unit.files) for unit in units(listing.split()) if len(unit.files) > 1}
    assert found == expected


@pytest.mark.parametrize(
    ("listing", "missing"),
    [
        ("m-00001-of-00003.bin m-00003-of-00003.bin", 1),
        ("m-00002-of-00002.safetensors", 1),
        ("m-00001-of-00002.gguf m-00002-of-00002.gguf", 0),
        ("consolidated.00.pth consolidated.02.pth", 1),
        ("consolidated.00.pth", 0),
    ],
)
def test_missing_shards_are_counted(listing: str, missing: int) -> None:
    (unit,) = units(listing.split())
    assert unit.missing == missing


def test_an_index_may_be_selected_alone_but_shards_require_it() -> None:
    found = units(LLAMA.split())
    assert complete(["model.safetensors.index.json"], found) == {"model.safetensors.index.json"}
    assert complete(["model-00002-of-00002.safetensors"], found) == {
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    }


def test_external_data_without_its_graph_is_a_unit_of_its_own() -> None:
    assert {unit.kind for unit in units(["lone.onnx_data", "weights.pb"])} == {"file"}
    assert external_data_of("sub/model.onnx", ["sub/weights.pb", "weights.pb"]) == ("sub/weights.pb",)
