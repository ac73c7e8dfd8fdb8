"""The candidates that the files of a repository allow, in order, and how many bytes each writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from gpux import errors
from gpux.convert.base import ConversionReport, ConversionRequest, Converter, Refusal
from gpux.inspect.formats import weight_formats
from gpux.model.info import ModelFile, ModelInfo
from gpux.pull.absent_weights import check_weights, no_weights
from gpux.pull.candidates import Candidate, direct_candidates, variant_bytes
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback

NO = Refusal("has no heart", False)


class Named(Converter):
    """Refuses or accepts; its readiness is not part of the candidates."""

    name = "named"

    def __init__(self, refusal: Refusal | None = None) -> None:
        self._refusal = refusal

    def refusal(self, config: Mapping[str, Any], task: str) -> Refusal | None:
        return self._refusal

    def check_ready(self) -> None:
        raise AssertionError("readiness is checked later")

    def _convert(self, request: ConversionRequest, progress: ProgressCallback, cancel: CancelToken) -> ConversionReport:
        raise AssertionError("nothing is converted")


def info(parameters: int | None = None, **sizes: int) -> ModelInfo:
    names = {name.replace("__", "/").replace("_dot_", "."): size for name, size in sizes.items()}
    files = tuple(ModelFile(path, size) for path, size in names.items())
    return ModelInfo("hf", "org/name", "org/name", files=files, formats=weight_formats(names), parameters=parameters)


def candidates(found: ModelInfo, precision: str = "fp32", **options: Any) -> list[Candidate]:
    converters = {"a": Named(NO), "b": Named()}
    return direct_candidates(found, "fill-mask", precision, lambda paths: {"model_type": "bert"}, converters, **options)


def names(found: list[Candidate], *, usable: bool = True) -> list[str]:
    return [candidate.name for candidate in found if candidate.usable is usable]


SHIPS = info(config_dot_json=10, tokenizer_dot_json=20, model_dot_safetensors=1000, onnx__model_dot_onnx=1100)
WEIGHTS = info(parameters=500, config_dot_json=10, model_dot_safetensors=1000)
FP16_ALONE = info(config_dot_json=10, onnx__model_fp16_dot_onnx=600)
FP16 = info(config_dot_json=10, onnx__model_dot_onnx=1100, onnx__model_fp16_dot_onnx=600)


def test_shipped_onnx_comes_first_and_converters_follow() -> None:
    found = candidates(SHIPS)

    assert [(c.name, c.kind, c.usable) for c in found] == [
        ("shipped", "shipped", True),
        ("a", "convert", False),
        ("b", "convert", True),
    ]
    assert set(found[0].paths) == {"config.json", "tokenizer.json", "onnx/model.onnx"}
    assert "onnx/model.onnx" in found[0].reason and "has no heart" in found[1].reason
    assert variant_bytes(SHIPS, found[0], "fp32") == 10 + 20 + 1100


def test_convert_and_converter_exclude_candidates() -> None:
    assert names(candidates(SHIPS, convert=True)) == ["b"]
    assert [c.name for c in candidates(SHIPS, convert=True, only="b")] == ["shipped", "b"]
    assert candidates(SHIPS, convert=True)[-1].weights == ("model.safetensors",)
    with pytest.raises(errors.UsageError, match="no converter 'x'"):
        candidates(SHIPS, only="x")


def test_half_precision_weights_become_twice_as_large() -> None:
    assert variant_bytes(WEIGHTS, candidates(WEIGHTS)[-1], "fp32") == 10 + round(4 * 500 * 1.05)


def test_a_quantized_variant_needs_space_beside_the_fp32_one() -> None:
    fp32 = candidates(SHIPS)[0]
    quantized = Candidate("quantizer", "quantize", True, "", fp32.weights, fp32.run_files)

    assert variant_bytes(SHIPS, quantized, "int8") > variant_bytes(SHIPS, fp32, "fp32")


def test_a_shipped_precision() -> None:
    found = candidates(FP16, "fp16")

    assert [(c.name, c.weights) for c in found] == [("shipped", ("onnx/model_fp16.onnx",))]


@pytest.mark.parametrize("precision", ["int8", "int4", "q4f16"])
def test_a_precision_that_is_not_shipped(precision: str) -> None:
    (found,) = candidates(SHIPS, precision)

    assert not found.usable and "ONNX in fp32, not in" in found.reason


def test_parts_are_one_model() -> None:
    parts = ("onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx", "onnx/decoder_model.onnx")
    files = tuple(ModelFile(path, 1) for path in ("config.json", *parts))

    (found,) = candidates(ModelInfo("hf", "org/name", "org/name", files=files))

    assert [graph.part for graph in found.graphs] == ["decoder_model_merged", "encoder_model"]


@pytest.mark.parametrize(
    ("found", "precision", "message"),
    [
        (SHIPS, "q4f16", "ONNX in fp32"),
        (WEIGHTS, "bf16", "no weights in bf16: gpux converts to fp32, fp16, int8, int4"),
        (FP16_ALONE, "fp32", "ships onnx in fp16, not in fp32"),
        (info(config_dot_json=1), "fp32", "the repository has no weights"),
        (info(a_dot_gguf=1, b_dot_gguf=1), "fp32", "2 GGUF files"),
    ],
)
def test_the_error_lists_the_weights_that_a_repository_has(found: ModelInfo, precision: str, message: str) -> None:
    assert names(candidates(found, precision)) == []
    assert message in no_weights(found, precision).message


@pytest.mark.parametrize("found", [info(config_dot_json=1), info(a_dot_gguf=1, b_dot_gguf=1)])
def test_weights_are_checked_before_the_task(found: ModelInfo) -> None:
    with pytest.raises(errors.NoWeightsError):
        check_weights(found)
