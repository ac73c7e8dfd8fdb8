from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpux.errors import CorruptFileError, EntryNotFoundError
from gpux.inspect.headers.safetensors import FIRST, parse_header, read_headers, shards_of, summarize
from tests.inspect.headers.files import MemoryReads, safetensors, with_header

TENSORS = [
    ("wte.weight", "F32", (50, 8)),
    ("h.0.attn.bias", "F32", (1, 1, 16, 16)),
    ("h.0.attn.c_attn.bias", "F32", (24,)),
]
QUANT_STATE = ("l.weight.quant_state.bitsandbytes__nf4", "U8", (90,))


def test_one_file_takes_one_read() -> None:
    reads = MemoryReads({"model.safetensors": safetensors(TENSORS, {"format": "pt"})})

    found = summarize(read_headers(reads, ["model.safetensors"]))

    assert [path for path, _, _ in reads.parts] == ["model.safetensors"]
    assert (found.tensors, found.stored, found.dtype) == (3, {"F32": 400 + 256 + 24}, "F32")
    assert (found.parameters, found.buffers, found.bytes) == (424, 256, 4 * 680)


def test_a_long_header_takes_two() -> None:
    many = [(f"model.layers.{number}.weight", "BF16", (2, 2)) for number in range(3000)]
    reads = MemoryReads({"m": safetensors(many)})

    assert summarize(read_headers(reads, ["m"])).parameters == 12_000
    assert [start for _, start, _ in reads.parts] == [0, FIRST]


def test_a_hundred_shards_take_two_megabytes_at_most() -> None:
    """Headers of the size of a model of 400 B parameters."""
    names = ["input_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "self_attn.q_proj", "self_attn.k_proj"]
    files = {
        f"model-{number:05}-of-00100.safetensors": safetensors(
            [(f"model.layers.{number}.{i}.{name}.weight", "BF16", (64, 16)) for i in range(15) for name in names]
        )
        for number in range(1, 101)
    }
    reads = MemoryReads(files)

    found = summarize(read_headers(reads, list(files)))

    assert found.parameters == 100 * 90 * 1024
    assert len(reads.parts) <= 200
    assert reads.received <= 2_000_000
    assert max(sum(path == name for path, _, _ in reads.parts) for name in files) <= 2


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ends before its header"),
        (b"\x05\x00", "ends before its header"),
        (b"<!DOCTYPE html><html>sign in</html>", "like an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        ((1 << 40).to_bytes(8, "little") + bytes(100), "its header should have"),
        (with_header(b"{]"), "not JSON"),
        (with_header(b"[1]"), "not a JSON object"),
        (with_header(b"[" * 90_000), "not JSON"),
        (with_header(b'{"a": 1}'), "does not describe the tensor 'a'"),
        (with_header(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, -8]}}'), "does not describe"),
        (
            with_header(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'),
            "8 bytes after the end of the file",
        ),
        (with_header(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', 8), "do not fit its shape"),
    ],
)
def test_a_damaged_header_is_named(data: bytes, why: str) -> None:
    with pytest.raises(CorruptFileError, match=why) as caught:
        read_headers(MemoryReads({"a/model.safetensors": data}), ["a/model.safetensors"])
    assert "a/model.safetensors" in caught.value.message


def test_a_missing_file() -> None:
    with pytest.raises(EntryNotFoundError):
        read_headers(MemoryReads({}), ["model.safetensors"])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_a_typed_error(data: bytes) -> None:
    try:
        read_headers(MemoryReads({"m": data}), ["m"])
    except CorruptFileError as exc:
        assert exc.details["file"] == "m"


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.floats(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_any_json_is_a_header_or_a_typed_error(value: object) -> None:
    for entry in (value, {"w": value}, {"w": {"dtype": "F32", "shape": value, "data_offsets": value}}):
        try:
            parse_header("m", json.dumps(entry).encode(), 100)
        except CorruptFileError as exc:
            assert exc.details["file"] == "m"


PACKED = [
    ("gptq", 4, 32 * 64 * 8, [("l.qweight", "I32", (32, 64)), ("l.qzeros", "I32", (1, 8)), ("l.g_idx", "I32", (256,))]),
    ("gptq in 8 bits", 8, 64 * 64 * 4, [("l.qweight", "I32", (64, 64)), ("l.scales", "F16", (1, 64))]),
    ("bitsandbytes", None, 200, [("l.weight", "U8", (100, 1)), ("l.weight.absmax", "F32", (4,))]),
    ("its state", None, 200, [("l.weight", "U8", (100, 1)), ("l.weight.absmax", "F32", (4,)), QUANT_STATE]),
    ("mxfp4", None, 2048, [("m.proj_blocks", "U8", (4, 8, 2, 16)), ("m.proj_scales", "U8", (4, 8, 2))]),
    ("compressed", 4, 512, [("l.weight_packed", "I32", (8, 8)), ("l.weight_shape", "I64", (2,))]),
    ("fp8", None, 64, [("l.weight", "F8_E4M3", (8, 8)), ("l.weight_scale_inv", "F32", (1, 1))]),
    ("statistics", None, 8, [("bn.weight", "F32", (8,)), ("bn.running_mean", "F32", (8,))]),
]


@pytest.mark.parametrize(("bits", "parameters", "tensors"), [case[1:] for case in PACKED], ids=[c[0] for c in PACKED])
def test_packed_weights_are_unpacked(
    bits: int | None, parameters: int, tensors: list[tuple[str, str, tuple[int, ...]]]
) -> None:
    reads = MemoryReads({"m": safetensors(tensors)})

    assert summarize(read_headers(reads, ["m"]), bits).parameters == parameters


def test_shards_of_an_index() -> None:
    assert shards_of({"weight_map": {"a": "x-2", "b": "x-1", "c": "x-2"}}) == ("x-1", "x-2")
    assert shards_of({"weight_map": [1]}) == shards_of({}) == ()
