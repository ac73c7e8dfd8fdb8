"""JSON files that others wrote: byte order marks, missing files and damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpux.errors import CorruptFileError
from gpux.model.json_file import load_json, parse_json, read_json


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    (tmp_path / "x.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "x.json") == {"a": 1}


@pytest.mark.parametrize("data", [b"", b"{", b'{"a": "\xff"}', b"[" * 100_000])
def test_damage_is_a_value_error_and_a_corrupt_file(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(data)
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(CorruptFileError, match=r"x\.json is not JSON") as caught:
        load_json(tmp_path / "x.json", hint="Write it again.")
    assert caught.value.hint == "Write it again."


def test_a_missing_file_has_no_fields_and_cannot_be_loaded(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") == {}
    with pytest.raises(FileNotFoundError):
        load_json(tmp_path / "none.json")


@pytest.mark.parametrize("content", ["[1]", "null", '"text"'])
def test_other_values_have_no_fields(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    assert read_json(tmp_path / "x.json") == {}
