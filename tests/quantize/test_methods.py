"""Which methods quantize a variant to a precision, and which requests are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpux import errors
from gpux.model.variant import StoredModel
from gpux.quantize.methods import QuantizeOptions, exact_dot_products, methods
from tests.quantize.float_variants import WIDTH, decoder, decoder_calls, encoder, float_calls, stored


@pytest.fixture
def small_decoder(tmp_path: Path) -> StoredModel:
    return stored(tmp_path / "decoder", decoder(), decoder_calls())


def test_each_method_is_followed_by_a_more_exact_one(small_decoder: StoredModel, tmp_path: Path) -> None:
    small_encoder = stored(tmp_path / "encoder", encoder(), float_calls(2, 5, WIDTH))

    def names(model: StoredModel, precision: str) -> list[str]:
        return [method.name for method in methods(model, precision, QuantizeOptions(column_bits=7))]

    assert names(small_decoder, "fp16") == names(small_encoder, "fp16") == ["fp16"]
    assert names(small_decoder, "int8") == ["int8-blocks32", "int8-blocks32-floats"]
    assert names(small_encoder, "int8") == ["int8-dynamic-perchannel-7bit", "int8-blocks32-floats"]
    assert names(small_decoder, "int4") == ["int4-blocks64", "int4-blocks32-asymmetric-head8"]
    assert names(small_encoder, "int4") == ["int4-blocks32", "int4-blocks32-asymmetric-head8"]


@pytest.mark.parametrize(
    ("precision", "error"),
    [("bf16", errors.UnsupportedError), ("int3", errors.UsageError), ("fp32", errors.UsageError)],
)
def test_other_precisions_are_refused(small_decoder: StoredModel, precision: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        methods(small_decoder, precision, QuantizeOptions())


def test_only_fp32_is_quantized(small_decoder: StoredModel) -> None:
    half = replace(small_decoder, manifest=replace(small_decoder.manifest, precision="fp16"))

    with pytest.raises(errors.UsageError, match="this variant of tiny is fp16"):
        methods(half, "int8", QuantizeOptions())


@pytest.mark.parametrize("options", [{"block": 8}, {"block": 48}, {"head_bits": 5}, {"column_bits": 4}])
def test_options_are_checked(options: dict[str, int]) -> None:
    with pytest.raises(errors.UsageError):
        QuantizeOptions(**options)  # type: ignore[arg-type]


def test_dot_products_are_exact_on_x86_with_vnni_and_elsewhere(tmp_path: Path) -> None:
    for flags, exact in (("fpu avx2", False), ("fpu avx512_vnni", True), ("avx2 avx_vnni", True)):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
        assert exact_dot_products(tmp_path / "cpuinfo", "x86_64") is exact

    assert exact_dot_products(tmp_path / "nothing", "aarch64") and not exact_dot_products(tmp_path / "nothing", "AMD64")
