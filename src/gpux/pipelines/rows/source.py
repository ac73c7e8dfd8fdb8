"""A row of a file, the columns that make an input of it, and what every source of rows does."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from gpux.download.address import is_address, read_address
from gpux.errors import GpuxError, InputError, UsageError
from gpux.pipelines.base import Kind
from gpux.pipelines.rows.content import check_bytes, check_file

#: Columns that hold the input where none is named, by what a task takes; the first that a file has is read.
_USUAL: Mapping[Kind, Sequence[str]] = {
    "text": ("text", "input", "inputs", "prompt", "messages", "sentence", "content", "document", "question"),
    "image": ("image", "path", "file", "file_name", "filename"),
    "audio": ("audio", "path", "file", "file_name", "filename"),
    "video": ("video", "path", "file", "file_name", "filename"),
}
_ID = "id"


@dataclass(frozen=True)
class Row:
    """One input of a file."""

    number: int  #: from 0, as in a list
    value: Any  #: what a pipeline is called with, or a :class:`GpuxError`: why the row cannot be read
    names: Mapping[str, Any] = field(default_factory=dict)  #: ``id`` or ``path`` of the input, where it has one


@dataclass(frozen=True)
class Columns:
    """The columns that make an input: one column is the input, several are a dict of it.

    Args:
        chosen: ``text``, or ``question`` and ``context``; ``question=q`` reads the column ``q`` as ``question``. Empty:
            the usual column of what the task takes.
        takes: what an input is.
        keys: keys of an input that is a dict, where the task has one.
        urls: whether an input that is an http or https address is fetched.
    """

    chosen: Sequence[str] = ()
    takes: Kind = "text"
    keys: Sequence[str] = ()
    urls: bool = False

    def found(self, file: Path, available: Sequence[str]) -> Mapping[str, str]:
        """Key of an input -> column, among the columns that a file has; the key ``""`` for an input that is no dict.

        Raises:
            UsageError: the file does not have the column, or none that is an input by its name.
        """
        if self.chosen:
            pairs = [(key, column or key) for key, _, column in (name.partition("=") for name in self.chosen)]
            for _, column in pairs:
                if column not in available:
                    raise _no_column(file, column, available)
            return {"" if len(pairs) == 1 and "=" not in self.chosen[0] else key: column for key, column in pairs}
        if self.keys and set(self.keys) <= set(available):
            return {key: key for key in self.keys}
        usual = [name for name in _USUAL[self.takes] if name in available]
        others = [name for name in available if name != _ID]
        if usual or len(others) == 1:
            return {"": (usual or others)[0]}
        raise UsageError(
            f"{file} has the columns {', '.join(available) or 'none'}, and none of them is an input by its name",
            hint=f"Name it: --column {others[0] if others else 'NAME'}.",
            columns=list(available),
        )


def _no_column(file: Path, name: str, available: Sequence[str]) -> UsageError:
    near = difflib.get_close_matches(name, available, 1)
    return UsageError(
        f"{file} has no column {name}; it has {', '.join(available) or 'none'}",
        hint=f"Did you mean --column {near[0]}?" if near else "Name one of these with --column.",
        columns=list(available),
    )


def open_input(name: str, takes: Kind, folder: Path, *, urls: bool = False) -> Path | bytes:
    """The path of a file with what a task takes, or the bytes at an address.

    Args:
        name: a path, relative to ``folder``, or an http or https address.
        takes: what the file has to hold.
        folder: of relative paths.
        urls: whether an address is fetched.

    Raises:
        InputError: no such file, one that holds something else, or an address that is not or cannot be fetched.
    """
    if not is_address(name):
        return check_file(folder / name, takes)
    if not urls:
        raise InputError(
            f"{name} is an address, which is fetched only where that is allowed",
            hint="Pass --allow-urls, or download it and pass the file.",
            path=name,
        )
    return check_bytes(read_address(name), takes, name)


class Rows(ABC):
    """The rows of a file or folder; iterating reads it from its beginning."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path = path
        self.columns = columns

    def __iter__(self) -> Iterator[Row]:
        return (self._checked(row) for row in self._read())

    def check(self) -> None:
        """Raise what is wrong with the whole file.

        Raises:
            UsageError: no such column, another encoding, or not a file of its format.
        """
        next(self._read(), None)

    @abstractmethod
    def _read(self) -> Iterator[Row]:
        """The rows, files of pictures and sounds unchecked."""

    @cached_property
    @abstractmethod
    def total(self) -> int:
        """Number of rows."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, by which a changed file is noticed."""
        found = sha256()
        with self.path.open("rb") as file:
            while data := file.read(1 << 20):
                found.update(data)
        return found.hexdigest()

    def _row(self, number: int, record: Mapping[str, Any], columns: Mapping[str, str]) -> Row:
        missing = [column for column in columns.values() if column not in record]
        names = {_ID: record[_ID]} if isinstance(record.get(_ID), (str, int)) else {}
        if missing:
            have = ", ".join(map(str, record)) or "none"
            return Row(number, InputError(f"row {number} has no {missing[0]}; it has {have}", index=number), names)
        if set(columns) == {""}:
            return Row(number, record[columns[""]], names)
        return Row(number, {key: record[column] for key, column in columns.items()}, names)

    def _checked(self, row: Row) -> Row:
        """A row with the file that its value names, where the task takes files."""
        if self.columns.takes == "text" or isinstance(row.value, GpuxError):
            return row
        try:
            value = self._file(row.value, row.number)
        except InputError as error:
            return Row(row.number, error, row.names)
        shown = {"path": row.value} if isinstance(row.value, str) else {}
        return Row(row.number, value, {**row.names, **shown})

    def _file(self, value: Any, number: int) -> Any:
        """The bytes of a value, or the path that it names, from the folder of this file."""
        if isinstance(value, Mapping) and {"bytes", "path"} & set(value):  # as `datasets` writes pictures and sounds
            value = value.get("bytes") or value.get("path")
        if isinstance(value, Mapping):  # a picture with a question
            return {key: self._file(item, number) if key == self.columns.takes else item for key, item in value.items()}
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str) or not value:
            raise InputError(
                f"row {number} has {type(value).__name__} in place of a path or of the bytes of a file", index=number
            )
        return open_input(value, self.columns.takes, self.path.parent, urls=self.columns.urls)
