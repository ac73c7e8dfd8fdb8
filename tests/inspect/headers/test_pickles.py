from __future__ import annotations

import io
import os
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpux.errors import CorruptFileError
from gpux.inspect.headers.pickles import PickleImport, imports, is_pickle, read_imports
from tests.inspect.headers.files import MemoryReads


class Evil:
    """Runs a command when it is loaded."""

    def __reduce__(self) -> Any:
        return os.system, ("true",)


def archive(data: bytes, weights: int = 0) -> bytes:
    """The layout of ``torch.save``: the pickle first, then the storages."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/data/0", bytes(weights))
        file.writestr("archive/version", b"3\n")
    return buffer.getvalue()


@pytest.mark.parametrize("protocol", range(6))
def test_the_imports_of_a_pickle(protocol: int) -> None:
    data = pickle.dumps([OrderedDict(a=1), Evil(), OrderedDict(b=2), Evil()], protocol)

    found = imports(data, "x.pkl")

    assert {f"{item}" for item in found} >= {"collections.OrderedDict", f"{os.system.__module__}.system"}
    assert [item.name for item in found if not item.innocuous] == ["system"]


def test_an_archive_is_read_with_few_ranges() -> None:
    data = archive(pickle.dumps(OrderedDict(a=Evil()), 2), weights=50_000_000)
    reads = MemoryReads({"pytorch_model.bin": data})

    found = read_imports(reads, "pytorch_model.bin")

    assert [str(item) for item in found if not item.innocuous] == [f"{os.system.__module__}.system"]
    assert reads.received < 300_000


def test_concatenated_pickles() -> None:
    data = pickle.dumps(1, 2) + pickle.dumps(OrderedDict(), 2) + b"storages, which are no pickle"

    assert [str(item) for item in read_imports(MemoryReads({"x.pt": data}), "x.pt")] == ["collections.OrderedDict"]


def test_strings_in_the_memo() -> None:
    """Repeated names are read from the memo."""
    first, second = OrderedDict(a=1), OrderedDict(b=2)
    data = pickle.dumps((first, second, "collections"), 4)
    assert "BINGET" in {opcode.name for opcode, _, _ in pickletools.genops(data)}

    assert [str(item) for item in imports(data, "x")] == ["collections.OrderedDict"]


@pytest.mark.parametrize("data", [b"", b"no pickle", b"PK\x03\x04 no archive", archive(b"no pickle")])
def test_a_file_that_is_not_a_pickle_is_a_typed_error(data: bytes) -> None:
    if not data:
        assert imports(data, "x.pt") == ()
        return
    with pytest.raises(CorruptFileError, match=r"x\.pt"):
        read_imports(MemoryReads({"x.pt": data}), "x.pt")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_pickle_or_a_typed_error(data: bytes) -> None:
    for whole in (data, b"PK\x03\x04" + data, pickle.dumps(Evil())[:20] + data):
        try:
            read_imports(MemoryReads({"x.pt": whole}), "x.pt")
        except CorruptFileError as exc:
            assert exc.details["file"] == "x.pt"


def test_names() -> None:
    assert [is_pickle(name) for name in ("a.bin", "b.PT", "c.safetensors", "d.onnx")] == [True, True, False, False]
    assert PickleImport("builtins", "eval").innocuous is False
    assert PickleImport("torch", "FloatStorage").innocuous
    assert PickleImport("torch", "load").innocuous is False
