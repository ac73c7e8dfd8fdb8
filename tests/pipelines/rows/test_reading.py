"""Rows of files: which column is the input, and what happens to rows and files that cannot be read."""

from __future__ import annotations

import json
import struct
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from gpux.errors import GpuxError, InputError, UnsupportedError, UsageError
from gpux.pipelines.rows.content import check_file, kind_of
from gpux.pipelines.rows.reading import open_rows
from gpux.pipelines.rows.source import Columns, Rows

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 30
WAV = b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 30


def write(path: Path, data: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def values(rows: Rows) -> list[Any]:
    """The value of each row, or the message of its error."""
    found = list(rows)
    assert [row.number for row in found] == list(range(len(found))) and rows.total == len(found)
    return [row.value.message if isinstance(row.value, GpuxError) else row.value for row in found]


def test_lines_of_a_text_file(tmp_path: Path) -> None:
    rows = open_rows(write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\n\nt\xc3\xa9\nbad \xff\nlast"), Columns())
    assert values(rows) == ["one", "", "té", "row 3 is not UTF-8: byte 0xff at 4", "last"]
    assert values(open_rows(write(tmp_path / "empty.txt", b""), Columns())) == []


def test_json_lines_of_texts_and_of_objects(tmp_path: Path) -> None:
    lines = ['{"id": 7, "text": "one"}', "", '"two"', "{", '{"id": 9}', '[{"role": "user"}]']
    rows = open_rows(write(tmp_path / "a.jsonl", "\n".join(lines)), Columns())
    found = values(rows)
    assert found[:2] == ["one", "two"] and found[4] == [{"role": "user"}]
    assert found[2].startswith("row 2 is not JSON") and found[3] == "row 3 has no text; it has id"
    assert [row.names for row in rows] == [{"id": 7}, {}, {}, {"id": 9}, {}]


def test_csv_with_quotes_and_with_broken_records(tmp_path: Path) -> None:
    text = '\ufeffid,text\n1,"a, ""b""\nc"\n2,x,y\n\n3,"unclosed" z\n4,é\n'
    rows = open_rows(write(tmp_path / "a.csv", text), Columns())
    found = values(rows)
    assert found[0] == 'a, "b"\nc' and found[1] == "row 1 has 3 fields, and the header has 2"
    assert found[2].startswith("row 2 is not CSV") and found[3] == "é"
    assert [row.names for row in rows] == [{"id": "1"}, {}, {}, {"id": "4"}]
    long = "x" * 200_000  # more than the csv module reads by default
    assert values(open_rows(write(tmp_path / "b.tsv", f"a\ttext\n1\t{long}\n"), Columns())) == [long]


def test_parquet(tmp_path: Path) -> None:
    table = pyarrow.table({"id": [1, 2], "body": ["one", None], "other": [0.5, 1.0]})
    parquet.write_table(table, tmp_path / "a.parquet")
    rows = open_rows(tmp_path / "a.parquet", Columns(["body"]))
    assert values(rows) == ["one", None] and [row.names for row in rows] == [{"id": 1}, {"id": 2}]
    with pytest.raises(UsageError, match=r"a\.parquet is not Parquet"):
        open_rows(write(tmp_path / "a.parquet", "text"), Columns())


def test_several_columns_are_a_dict(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"q": "who?", "c": "me", "context": "other"}\n')
    assert values(open_rows(file, Columns(["question=q", "context=c"]))) == [{"question": "who?", "context": "me"}]
    assert values(open_rows(file, Columns(["question=q"]))) == [{"question": "who?"}]
    assert values(open_rows(file, Columns(["q"]))) == ["who?"]
    whole = write(tmp_path / "b.jsonl", '{"id": 1, "question": "who?", "context": "me"}\n')
    assert values(open_rows(whole, Columns(keys=("question", "context")))) == [{"question": "who?", "context": "me"}]


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.csv", "id,text,label\n1,x,y\n"), ("a.jsonl", '{"id": 1, "text": "x", "label": "y"}\n'), ("a.parquet", "")],
)
def test_a_wrong_column_is_refused_with_those_that_there_are(tmp_path: Path, name: str, data: str) -> None:
    file = tmp_path / name
    if data:
        write(file, data)
    else:
        parquet.write_table(pyarrow.table({"id": [1], "text": ["x"], "label": ["y"]}), file)
    with pytest.raises(UsageError, match=r"has no column txt; it has id, text, label") as caught:
        open_rows(file, Columns(["txt"]))
    assert caught.value.hint == "Did you mean --column text?"
    assert caught.value.details["columns"] == ["id", "text", "label"]
    hinted = caught.value.hint.removeprefix("Did you mean --column ").removesuffix("?")
    assert values(open_rows(file, Columns([hinted]))) == ["x"]


def test_files_that_cannot_be_read_as_rows(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none of them is an input by its name") as caught:
        open_rows(write(tmp_path / "a.csv", "a,b\n1,2\n"), Columns())
    assert caught.value.hint == "Name it: --column a."
    for name, data, message in (
        ("b.xlsx", "x", "is in no known format"),
        ("c.jsonl", "é".encode("utf-16"), "is UTF-16 or UTF-32"),
        ("d.csv", "a,a\n1,2\n", "has several columns a"),
    ):
        with pytest.raises(UsageError, match=message):
            open_rows(write(tmp_path / name, data), Columns())
    with pytest.raises(UsageError, match="does not exist"):
        open_rows(tmp_path / "none.jsonl", Columns())


def test_a_folder_of_pictures_is_read_by_content(tmp_path: Path) -> None:
    for name, data in (
        ("b.png", PNG),
        ("sub/a.dat", PNG),
        ("notes.md", b"# text"),
        ("wrong.jpg", b"a text"),
        ("sound.wav", WAV),
        (".hidden/c.png", PNG),
    ):
        write(tmp_path / name, data)
    rows = open_rows(tmp_path, Columns(takes="image"))
    found = list(rows)
    assert [row.names for row in found] == [{"path": "b.png"}, {"path": "sub/a.dat"}, {"path": "wrong.jpg"}]
    assert [row.value for row in found[:2]] == [tmp_path / "b.png", tmp_path / "sub/a.dat"]
    assert isinstance(found[2].value, InputError) and "is not a picture" in found[2].value.message
    assert [row.names["path"] for row in open_rows(tmp_path, Columns(takes="audio"))] == ["sound.wav"]
    before = rows.digest
    write(tmp_path / "b.png", PNG + b"more")
    assert open_rows(tmp_path, Columns(takes="image")).digest != before


def test_a_folder_of_texts(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "\ufeffone\ntwo\n")
    write(tmp_path / "b.md", "other")
    assert values(open_rows(tmp_path, Columns())) == ["one\ntwo\n"]


def test_paths_of_a_table_are_relative_to_it(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.png", PNG)
    lines = [{"path": "a.png"}, {"path": "b.png"}, {"path": 5}]
    file = write(tmp_path / "data" / "rows.jsonl", "\n".join(map(json.dumps, lines)))
    rows = open_rows(file, Columns(takes="image"))
    first, second, third = values(rows)
    assert first == tmp_path / "data" / "a.png" and second.endswith("b.png does not exist")
    assert third == "row 2 has int in place of a path or of the bytes of a file"
    assert next(iter(rows)).names == {"path": "a.png"}
    pictures = pyarrow.table({"image": [{"bytes": PNG, "path": "x.png"}, {"bytes": None, "path": "a.png"}]})
    parquet.write_table(pictures, tmp_path / "data" / "p.parquet")
    assert values(open_rows(tmp_path / "data" / "p.parquet", Columns(takes="image"))) == [PNG, first]


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    for name, data, message in (
        ("text.png", b"just words", "its content is something else, perhaps a text"),
        ("sound.png", WAV, "its content is a sound"),
        ("empty.png", b"", "is empty"),
    ):
        with pytest.raises(InputError, match=message):
            check_file(write(tmp_path / name, data), "image")
    with pytest.raises(InputError, match="is a folder"):
        check_file(tmp_path, "image")
    with pytest.raises(InputError, match="does not exist"):
        check_file(tmp_path / "none.png", "image")
    with pytest.raises(InputError, match="cannot be read"):
        check_file(Path("a\0b"), "image")
    assert check_file(write(tmp_path / "right.txt", PNG), "image").name == "right.txt"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The address of a server on this machine that serves a folder with a picture and a text."""
    folder = tmp_path / "served"
    write(folder / "a.png", PNG)
    write(folder / "b.png", "a text")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_addresses_are_fetched_only_where_that_is_allowed(tmp_path: Path, address: str) -> None:
    file = write(tmp_path / "urls.txt", f"{address}/a.png\n{address}/b.png\n{address}/none.png\n")
    refused = values(open_rows(file, Columns(takes="image")))
    assert all("is fetched only where that is allowed" in message for message in refused)
    picture, text, missing = values(open_rows(file, Columns(takes="image", urls=True)))
    assert picture == PNG and "b.png is not a picture" in text and "none.png is refused with status 404" in missing


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "image"),
        (b"GIF89a", "image"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image"),
        (b"BM\x46\0\0\0\0\0\0\0", "image"),
        (b"BMW is a car", None),
        (b"P6\n3 2\n", "image"),
        (b"P6", None),
        (b"Python", None),
        (b"\0\0\0\x1cftypavif", "image"),
        (b"\0\0\0\x1cftypisom", "video"),
        (b"fLaC\0\0", "audio"),
        (b"OggS\0\x02", "audio"),
        (b"ID3\x04", "audio"),
        (b"\xff\xfb\x90\x64", "audio"),
        (b"\xff\xfe\x61\x00", None),
        (struct.pack("<I", 1), None),
        (b"", None),
    ],
)
def test_kinds_by_first_bytes(head: bytes, kind: str | None) -> None:
    assert kind_of(head) == kind


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "gpux.pipelines.rows.table", raising=False)
    with pytest.raises(UnsupportedError, match="Parquet needs pyarrow") as caught:
        open_rows(write(tmp_path / "a.parquet", b"PAR1"), Columns())
    assert "pip install 'gpux[table]'" in str(caught.value.hint)
