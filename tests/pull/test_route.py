"""Which way a pull goes, from file names alone, and how much room it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpux import errors
from gpux.inspect.formats import weight_formats
from gpux.model.info import ModelFile, ModelInfo
from gpux.pull.preflight import RESERVE, SpaceNeed, check_space, space_needs
from gpux.pull.route import choose_route, routes, variant_bytes


def info(parameters: int | None = None, **sizes: int) -> ModelInfo:
    names = {name.replace("__", "/").replace("_dot_", "."): size for name, size in sizes.items()}
    files = tuple(ModelFile(path, size) for path, size in names.items())
    return ModelInfo("hf", "org/name", "org/name", files=files, formats=weight_formats(names), parameters=parameters)


SHIPS = info(config_dot_json=10, tokenizer_dot_json=20, model_dot_safetensors=1000, onnx__model_dot_onnx=1100)
WEIGHTS = info(parameters=500, config_dot_json=10, model_dot_safetensors=1000)
FP16 = info(config_dot_json=10, onnx__model_dot_onnx=1100, onnx__model_fp16_dot_onnx=600)


def test_its_own_onnx_is_taken_and_could_be_converted() -> None:
    route = choose_route(SHIPS, "fill-mask", "fp32")

    assert (route.kind, set(route.paths)) == ("shipped", {"config.json", "tokenizer.json", "onnx/model.onnx"})
    assert [way.kind for way in routes(SHIPS, "fill-mask", "fp32")] == ["shipped", "convert"]
    assert variant_bytes(SHIPS, route) == 10 + 20 + 1100


def test_weights_are_converted() -> None:
    for found in (WEIGHTS, SHIPS):
        route = choose_route(found, "fill-mask", "fp32", convert=True)
        assert (route.kind, route.weights) == ("convert", ("model.safetensors",))
        assert routes(found, "fill-mask", "fp32", convert=True) == (route,)


def test_half_precision_weights_become_twice_as_large() -> None:
    route = choose_route(WEIGHTS, "fill-mask", "fp32")

    assert variant_bytes(WEIGHTS, route) == 10 + round(4 * 500 * 1.05)


def test_a_precision_that_is_shipped() -> None:
    route = choose_route(FP16, "fill-mask", "fp16")

    assert (route.kind, route.weights) == ("shipped", ("onnx/model_fp16.onnx",))


def test_a_precision_that_is_not_shipped_needs_room_for_both() -> None:
    route = choose_route(SHIPS, "fill-mask", "int8")

    assert (route.kind, route.weights) == ("reduce", ("onnx/model.onnx",))
    assert variant_bytes(SHIPS, route) > variant_bytes(SHIPS, choose_route(SHIPS, "fill-mask", "fp32"))


@pytest.mark.parametrize(
    ("found", "task", "precision", "kind", "said"),
    [
        (SHIPS, "fill-mask", "q4f16", errors.NoWeightsError, "onnx in fp32"),
        (WEIGHTS, "fill-mask", "bf16", errors.NoWeightsError, "safetensors"),
        (info(config_dot_json=1), "fill-mask", "fp32", errors.NoWeightsError, "none at all"),
        (info(a_dot_gguf=1, b_dot_gguf=1), "fill-mask", "fp32", errors.NoWeightsError, "gguf"),
    ],
)
def test_refusals(found: ModelInfo, task: str, precision: str, kind: type[errors.GpuxError], said: str) -> None:
    with pytest.raises(kind, match=said):
        choose_route(found, task, precision)


def test_needs_on_one_disk_are_added_up(tmp_path: Path) -> None:
    (need,) = space_needs(
        {"the download": (tmp_path / "a", 10), "the copy": (tmp_path / "b" / "c", 5), "no": (tmp_path, 0)}
    )

    assert (need.needed, need.purpose) == (15 + RESERVE, "the download and the copy")
    assert need.fits


def test_too_full_is_an_error_with_numbers(tmp_path: Path) -> None:
    with pytest.raises(errors.DiskFullError, match=r"2\.0 GB.*1\.0 GB") as caught:
        check_space((SpaceNeed(tmp_path, "the download", 2_000_000_000, 1_000_000_000),))

    assert caught.value.details["needed"] == 2_000_000_000
    check_space((SpaceNeed(tmp_path, "the download", 2_000_000_000, None),))
