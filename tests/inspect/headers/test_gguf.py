from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpux.errors import CorruptFileError, UnsupportedError
from gpux.inspect.headers.gguf import LongArray, read_gguf
from gpux.inspect.headers.gguf_summary import as_config, summarize
from tests.inspect.headers.files import Gguf, MemoryReads, llama

NAME = "Tiny-Q4_K_M.gguf"


def test_a_small_file() -> None:
    reads = MemoryReads({NAME: llama().file()})

    file = read_gguf(reads, NAME)
    found = summarize([file])

    assert (found.architecture, found.name, found.license, found.label) == ("llama", "Tiny", "mit", "Q4_K_M")
    assert (found.context_length, found.embedding_length, found.layers) == (8192, 256, 2)
    assert (found.heads, found.kv_heads, found.vocab) == (8, 2, 300)
    assert (found.tokenizer, found.chat_template) == ("gpt2", True)
    assert found.types == {"Q6_K": 2 * 131072, "Q4_K": 256 * 300 + 2 * 65536, "F32": 512}
    assert found.parameters == sum(found.types.values())
    assert found.bytes == 131072 // 256 * 210 * 2 + (256 * 300 + 2 * 65536) // 256 * 144 + 2048
    assert sum(found.shares.values()) == pytest.approx(1)
    assert 4.5 < (found.bits or 0) < 6.6
    assert len(reads.parts) == 1
    assert as_config(file)["num_key_value_heads"] == 2
    assert as_config(file)["tie_word_embeddings"] is True


def test_a_large_vocabulary_is_skipped() -> None:
    """A vocabulary of the size of Llama 3's, in a file of 40 GB."""
    made = llama(tokens=128_256, merges=280_147, layers=80)
    header = made.header()
    reads = MemoryReads({NAME: header}, {NAME: 40_000_000_000})

    file = read_gguf(reads, NAME)
    found = summarize([file])

    assert (found.vocab, found.chat_template, found.tensors) == (128_256, True, 241)
    assert file.metadata["tokenizer.ggml.merges"] == LongArray(280_147, is_text=True)
    assert file.metadata["tokenizer.ggml.eos_token_id"] == 2
    assert file.data_start == len(header) > 5_000_000
    assert reads.received < 800_000


@pytest.mark.parametrize("long", [1, 40, 3000])
def test_a_vocabulary_that_cannot_be_sampled_is_read_completely(long: int) -> None:
    file = Gguf().add("general.architecture", 8, "llama")
    file.add("tokenizer.ggml.tokens", 9, (8, ["x" * long] * 30_000)).add("odd", 4, 1)
    file.tensor("a", (32,))

    found = read_gguf(MemoryReads({NAME: file.file()}), NAME)

    assert found.metadata["odd"] == 1
    assert found.metadata["tokenizer.ggml.tokens"] == LongArray(30_000, is_text=True)


def test_a_fake_key_inside_the_vocabulary_is_detected() -> None:
    """A token that ends like the next key: the whole vocabulary is read."""
    texts = [f"token{number}" for number in range(30_000)]
    texts[29_900] = "tokenizer.ggml.fake"
    texts[29_901] = "\x04"  # its length is the number of a type
    file = llama(tokens=10)
    file.keys.insert(0, ("tokenizer.ggml.all", 9, (8, texts)))

    found = summarize([read_gguf(MemoryReads({NAME: file.file()}), NAME)])

    assert (found.vocab, found.layers) == (10, 2)


def test_a_big_endian_file() -> None:
    found = summarize([read_gguf(MemoryReads({NAME: llama(order=">").file()}), NAME)])

    assert (found.big_endian, found.vocab, found.context_length) == (True, 300, 8192)


def test_splits_are_one_model() -> None:
    first, second = llama(layers=1), Gguf().add("split.no", 2, 1).tensor("blk.1.attn_q.weight", (256, 256), 12)
    first.add("split.count", 2, 2).add("split.tensors.count", 5, 5)
    reads = MemoryReads({"m-00001-of-00002.gguf": first.file(), "m-00002-of-00002.gguf": second.file()})

    files = [read_gguf(reads, path) for path in reads.files]

    assert summarize(files).tensors == 5
    assert summarize(files).notes == ()
    assert summarize(files[:1]).notes == ("the counts are those of 1 of 2 splits",)


def test_a_file_with_only_a_vocabulary() -> None:
    file = llama()
    file.tensors = []

    found = summarize([read_gguf(MemoryReads({NAME: file.header()}), NAME)])

    assert (found.vocab, found.parameters, found.bits) == (300, 0, None)
    assert "no weights" in found.notes[0]


def _changed(place: int, value: bytes) -> bytes:
    data = llama().file()
    return data[:place] + value + data[place + len(value) :]


@pytest.mark.parametrize(
    ("data", "kind", "why"),
    [
        (b"", CorruptFileError, "begins with b''"),
        (b"GG", CorruptFileError, "begins with b''"),
        (b"<!DOCTYPE html>", CorruptFileError, "begins with b'<!DO'"),
        (b"GGUF\x01\x00", CorruptFileError, "ends at byte 6"),
        (_changed(4, b"\x01\0\0\0"), UnsupportedError, "version 1; supported: 2, 3"),
        (_changed(4, b"\x63\0\0\0"), UnsupportedError, "version 99"),
        (_changed(4, b"\0\0\0\x63"), UnsupportedError, "version 99"),
        (_changed(4, b"\0\0\0\x03"), CorruptFileError, "it states"),
        (_changed(8, b"\xff" * 8), CorruptFileError, "it states"),
        (_changed(24, b"\xff" * 8), CorruptFileError, "a string of"),
        (llama().file()[:300], CorruptFileError, "ends at byte 300"),
        (llama().file()[:-1000], CorruptFileError, "but the file has"),
        (llama().header()[:-200], CorruptFileError, "ends at byte"),
    ],
)
def test_a_damaged_file_is_a_typed_error(data: bytes, kind: type[Exception], why: str) -> None:
    with pytest.raises(kind, match=why) as caught:
        read_gguf(MemoryReads({NAME: data}), NAME)
    assert NAME in str(caught.value)


@given(st.integers(0, 8000), st.binary(min_size=1, max_size=12))
def test_any_damage_is_a_typed_error_or_none(place: int, value: bytes) -> None:
    try:
        summarize([read_gguf(MemoryReads({NAME: _changed(place, value)}), NAME)])
    except (CorruptFileError, UnsupportedError) as exc:
        assert NAME in str(exc)


def test_a_file_of_the_reference_writer(tmp_path: Path) -> None:
    """A file written by ggml's own package, if it is installed."""
    package = pytest.importorskip("gguf")
    import numpy as np

    writer = package.GGUFWriter(tmp_path / NAME, "llama")
    writer.add_context_length(4096)
    writer.add_head_count_kv([2, 4])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token{number}" for number in range(50_000)])
    writer.add_token_scores([float(number) for number in range(50_000)])
    writer.add_chat_template("{{ x }}")
    writer.add_tensor("token_embd.weight", np.zeros((8, 64), np.float32))
    raw = np.zeros((4, 34 * 2), np.uint8)
    writer.add_tensor("output.weight", raw, raw_dtype=package.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = (tmp_path / NAME).read_bytes()

    found = summarize([read_gguf(MemoryReads({NAME: data}), NAME)])

    assert sys.byteorder == "little"
    assert (found.context_length, found.kv_heads, found.vocab, found.chat_template) == (4096, 4, 50_000, True)
    assert found.types == {"F32": 512, "Q8_0": 256}
