"""Files and folders of inputs, read row by row: text, JSON lines, CSV, Parquet; pictures and sounds of a folder.

A row that cannot be read is a row with an error in place of its value, and the rows after it are read. What is wrong
with the whole file (no such column, another encoding, an unknown format) is raised before the first row.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from gpux.errors import InputError, UsageError
from gpux.pipelines.base import Kind
from gpux.pipelines.rows.content import check_file, read_kind
from gpux.pipelines.rows.source import Columns, Row, Rows
from gpux.system.files import walk

_SUFFIXES = {
    "image": {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif"},
    "audio": {".wav", ".flac", ".ogg", ".mp3", ".m4a", ".opus", ".aiff"},
    "video": {".mp4", ".mkv", ".webm", ".avi", ".mov", ".gif", ".webp", ".apng"},
}
_LARGEST_FIELD = 2**31 - 1


class TextRows(Rows):
    """Each line is a row: a text, or the path of a file."""

    def _read(self) -> Iterator[Row]:
        with self.path.open("rb") as file:
            for number, line in enumerate(_plain(file, self.path)):
                yield Row(number, _text(line.rstrip(b"\r\n"), number))

    @cached_property
    def total(self) -> int:
        """Number of lines."""
        return _lines(self.path)


class JsonRows(Rows):
    """Each line is JSON: an object with columns, or the input itself. Empty lines are skipped, and not counted."""

    def _read(self) -> Iterator[Row]:
        columns: Mapping[str, str] | None = None
        with self.path.open("rb") as file:
            filled = (line for line in _plain(file, self.path) if line.strip())
            for number, line in enumerate(filled):
                value = _json(line, number)
                if isinstance(value, dict):
                    columns = columns or self.columns.found(self.path, list(value))
                    yield self._row(number, value, columns)
                else:
                    yield Row(number, value)

    @cached_property
    def total(self) -> int:
        """Number of lines that are not empty."""
        with self.path.open("rb") as file:
            return sum(1 for line in file if line.strip())


class CsvRows(Rows):
    """A table with a header; tabs separate the columns of a file named ``.tsv``."""

    def _read(self) -> Iterator[Row]:
        records = self._records()
        header = next(records, None)
        if isinstance(header, InputError):
            raise UsageError(f"{self.path} is not a table: {header.message}", hint="Its first line names the columns.")
        if header is None:
            return
        twice = {name for name in header if header.count(name) > 1}
        if twice:
            raise UsageError(f"{self.path} has several columns {', '.join(sorted(twice))}", hint="Rename one of them.")
        columns = self.columns.found(self.path, header)
        for number, record in enumerate(records):
            if isinstance(record, InputError):
                yield Row(number, InputError(f"row {number} is not CSV: {record.message}", index=number))
            elif len(record) != len(header):
                message = f"row {number} has {len(record)} fields, and the header has {len(header)}"
                yield Row(number, InputError(message, index=number))
            else:
                yield self._row(number, dict(zip(header, record, strict=True)), columns)

    @cached_property
    def total(self) -> int:
        """Number of records after the header."""
        return max(0, sum(1 for _ in self._records()) - 1)

    def _records(self) -> Iterator[list[str] | InputError]:
        """The fields of each record, an error for one that is not CSV; empty lines are skipped."""
        csv.field_size_limit(_LARGEST_FIELD)  # of the whole process; by default 128 kB, less than a document
        delimiter = "\t" if self.path.suffix.lower() == ".tsv" else ","
        with self.path.open("rb") as file:
            lines = (line.decode("utf-8", "surrogateescape") for line in _plain(file, self.path))
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            while True:
                try:
                    record = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield InputError(str(error))
                else:
                    if record:
                        yield record


class FolderRows(Rows):
    """Every file of a folder and the folders in it, in the order of names: pictures or sounds by content, else .txt."""

    @cached_property
    def files(self) -> list[tuple[str, Path]]:
        """The name of each file that is an input, relative to the folder, and its path.

        A file that is named as a picture or sound and holds something else is one too: its row has the error.
        """
        takes = self.columns.takes
        found = []
        for file in walk(self.path):
            named = file.path.suffix.lower() in _SUFFIXES.get(takes, {".txt"})
            hidden = any(part.startswith(".") for part in Path(file.name).parts)
            if not hidden and (named or (takes != "text" and _holds(file.path, takes))):
                found.append((file.name, file.path))
        return found

    def _read(self) -> Iterator[Row]:
        for number, (name, path) in enumerate(self.files):
            value: Any = name
            if self.columns.takes == "text":
                value = _text(path.read_bytes().removeprefix(b"\xef\xbb\xbf"), number)
            yield Row(number, value, {"path": name})

    def _file(self, value: Any, number: int) -> Any:
        return check_file(self.path / value, self.columns.takes)

    @cached_property
    def total(self) -> int:
        """Number of files."""
        return len(self.files)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the names, sizes and times of the files."""
        states = [(name, path.stat().st_size, path.stat().st_mtime_ns) for name, path in self.files]
        return sha256(json.dumps(states).encode()).hexdigest()


def open_rows(path: Path, columns: Columns) -> Rows:
    """The rows of a file, by its suffix (.txt, .jsonl, .ndjson, .csv, .tsv, .parquet), or of a folder.

    Raises:
        UsageError: no such file, an unknown format, no such column, or a file that is not of its format.
        UnsupportedError: the package that reads Parquet is not installed.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist", hint="Pass a file or a folder of inputs.", path=str(path))
    suffix = path.suffix.lower()
    found: Rows
    if path.is_dir():
        found = FolderRows(path, columns)
    elif suffix == ".parquet":
        from gpux.pipelines.rows.table import ParquetRows  # needs pyarrow

        found = ParquetRows(path, columns)
    elif suffix in _FORMATS:
        found = _FORMATS[suffix](path, columns)
    else:
        raise UsageError(
            f"{path} is in no known format",
            hint=f"Name it {', '.join(sorted({*_FORMATS, '.parquet'}))}, or pass a folder.",
            path=str(path),
        )
    try:
        found.check()
    except OSError as exc:
        raise UsageError(f"{path} cannot be read: {exc.strerror or exc}", path=str(path)) from exc
    return found


_FORMATS: Mapping[str, type[Rows]] = {
    ".csv": CsvRows,
    ".jsonl": JsonRows,
    ".ndjson": JsonRows,
    ".tsv": CsvRows,
    ".txt": TextRows,
}


def _holds(file: Path, takes: Kind) -> bool:
    try:
        return read_kind(file) == takes
    except OSError:
        return False


def _plain(lines: Iterable[bytes], path: Path) -> Iterator[bytes]:
    """Lines without the byte order mark of UTF-8.

    Raises:
        UsageError: the file is UTF-16 or UTF-32.
    """
    iterator = iter(lines)
    first = next(iterator, None)
    if first is None:
        return iter(())
    if first.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")):
        raise UsageError(
            f"{path} is UTF-16 or UTF-32, and UTF-8 is read",
            hint=f"Convert it: iconv -f UTF-16 -t UTF-8 {path} > utf8{path.suffix}",
            path=str(path),
        )
    return chain([first.removeprefix(b"\xef\xbb\xbf")], iterator)


def _text(data: bytes, number: int) -> str | InputError:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        return InputError(f"row {number} is not UTF-8: byte {data[exc.start]:#04x} at {exc.start}", index=number)


def _json(line: bytes, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as exc:  # also: not UTF-8
        return InputError(f"row {number} is not JSON: {exc}", index=number)


def _lines(path: Path) -> int:
    count, last = 0, b"\n"
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            count += data.count(b"\n")
            last = data[-1:]
    return count + (last != b"\n")
