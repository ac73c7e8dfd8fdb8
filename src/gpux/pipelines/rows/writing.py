"""Files of answers that a stopped run continues: JSON lines grow in place, Parquet is written in parts.

Beside an unfinished output ``out.jsonl`` stands the folder ``out.jsonl.run`` with ``run.json``, which says what the run
is of, a lock, and the parts of Parquet. It is deleted when the output is complete. Rows that failed stand in the output
with their error, and with their input and the reason in ``out.errors.jsonl``.
"""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from gpux.errors import UsageError
from gpux.model.json_file import read_json
from gpux.system.disk import disk_errors
from gpux.system.files import delete, sync_file, write_atomic
from gpux.system.locks import try_hold

FORMATS = (".jsonl", ".ndjson", ".parquet")
_ELSEWHERE = "Choose another --output."
#: Rows of one part of a Parquet file, and seconds after which one is written: what a killed run computes again.
_PART_ROWS, _PART_SECONDS = 2_000, 10.0


@dataclass(frozen=True)
class RunKey:
    """What a run is of; a run is continued only with the same.

    Args:
        input: digest of the input, see :attr:`gpux.pipelines.rows.source.Rows.digest`.
        columns: as chosen.
        model: reference with commit, precision, recipe and task.
        options: of the pipeline.
    """

    input: str
    columns: Sequence[str]
    model: str
    options: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        plain = json.loads(json.dumps(dict(self.options), default=str))
        return {"input": self.input, "columns": list(self.columns), "model": self.model, "options": plain}


class Output(ABC):
    """An output file that is being written; see :func:`open_output`."""

    def __init__(self, path: Path, work: Path) -> None:
        self.path = path
        self._work = work
        self.errors_path = errors_path(path)
        self.done = 0  #: rows that are in the output
        self.failed = 0  #: of these, rows with an error

    def write(self, results: Sequence[Mapping[str, Any]], errors: Sequence[Mapping[str, Any]]) -> None:
        """Add the next rows.

        Args:
            results: one for each row, with ``row`` first.
            errors: for the file of errors; their rows are among the results.

        Raises:
            DiskFullError: no space; what was written stays, and a second run continues there.
        """
        with self._errors():
            if errors:  # first: entries of rows that did not reach the output are dropped when the run is continued
                with self.errors_path.open("ab") as file:
                    _append(file, errors)
            self._write(results)
        self.done += len(results)
        self.failed += len(errors)

    def finish(self) -> None:
        """Complete the output, and delete what continues it.

        Raises:
            DiskFullError: no space.
        """
        with self._errors():
            self._finish()
            delete(self._work)

    def resume(self) -> None:
        """Count the rows that are there, and cut what a killed run left unfinished."""
        with self._errors():
            self.done = self._resume()
            kept = [line for line in _whole_lines(self.errors_path) if json.loads(line)["row"] < self.done]
            self.failed = len(kept)
            if kept:
                write_atomic(self.errors_path, b"".join(kept))
            else:
                self.errors_path.unlink(missing_ok=True)

    @abstractmethod
    def close(self) -> None:
        """Release the file; the run can be continued."""

    @contextmanager
    def _errors(self) -> Iterator[None]:
        hint = f"Free space, then run the same command again: it continues after row {self.done - 1}."
        if not self.done:
            hint = "Free space, then run the same command again."
        with disk_errors(self.path.parent, hint=hint):
            yield

    @abstractmethod
    def _write(self, results: Sequence[Mapping[str, Any]]) -> None: ...

    @abstractmethod
    def _resume(self) -> int: ...

    @abstractmethod
    def _finish(self) -> None: ...


class JsonLines(Output):
    """One JSON object per line, as the rows are answered."""

    def __init__(self, path: Path, work: Path) -> None:
        super().__init__(path, work)
        self._file: BinaryIO | None = None

    def _write(self, results: Sequence[Mapping[str, Any]]) -> None:
        if self._file is None:
            self._file = self.path.open("ab", buffering=0)
        _append(self._file, results)

    def _resume(self) -> int:
        count, size = 0, 0
        for line in _whole_lines(self.path):
            if not line.startswith(b'{"row": %d,' % count) or not line.endswith(b"}\n"):
                break  # zeros, where the power failed
            count, size = count + 1, size + len(line)
        if self.path.exists():
            os.truncate(self.path, size)
        return count

    def _finish(self) -> None:
        self.close()
        self.path.touch()
        sync_file(self.path)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class ParquetParts(Output):
    """Parts in the folder beside the output, merged into it at the end."""

    def __init__(self, path: Path, work: Path) -> None:
        super().__init__(path, work)
        self._table = _table()
        self._waiting: list[Mapping[str, Any]] = []
        self._since = time.monotonic()

    def _write(self, results: Sequence[Mapping[str, Any]]) -> None:
        self._waiting += results
        if len(self._waiting) >= _PART_ROWS or time.monotonic() - self._since > _PART_SECONDS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            first, last = self._waiting[0]["row"], self._waiting[-1]["row"]
            part = self._work / f"{first:012d}-{last:012d}.parquet"
            self._table.write_part(self._waiting, part)
            sync_file(part)
        self._waiting, self._since = [], time.monotonic()

    def _parts(self) -> list[Path]:
        return sorted(self._work.glob("*-*.parquet"))

    def _resume(self) -> int:
        count = 0
        for part in self._parts():
            first, last = (int(number) for number in part.stem.split("-"))
            if first != count:
                part.unlink()  # a part before it is gone
            else:
                count = last + 1
        return count

    def _finish(self) -> None:
        self._flush()
        self._table.merge_parts(self._parts(), self.path)
        sync_file(self.path)

    def close(self) -> None:
        """Write the rows that wait for the next part."""
        with self._errors():
            self._flush()


def errors_path(output: Path) -> Path:
    """The file of failed rows beside an output: ``out.errors.jsonl`` for ``out.parquet``."""
    return output.with_name(f"{output.stem}.errors.jsonl")


@contextmanager
def open_output(path: Path, key: RunKey, *, restart: bool = False) -> Iterator[Output]:
    """The output of a run, after the rows that a stopped run of the same key wrote.

    Args:
        path: ``.jsonl``, ``.ndjson`` or ``.parquet``.
        key: what the run is of.
        restart: delete what is there, and begin again.

    Raises:
        UsageError: another format, a complete output, an unfinished one of another input, model or options, or a second
            process that writes to it.
        UnsupportedError: the package that writes Parquet is not installed.
        DiskFullError, NotWritableError: the disk refuses.
    """
    work = path.with_name(f"{path.name}.run")
    output = _opened(path, work)
    with disk_errors(work, hint=_ELSEWHERE):
        work.mkdir(parents=True, exist_ok=True)
    with try_hold(work / "lock") as held:
        if not held:
            raise UsageError(f"another process writes {path}", hint="Wait for it, or choose another --output.")
        with disk_errors(path.parent, hint=_ELSEWHERE):
            if restart:
                _forget(path, work)
            if not (work / "run.json").exists():
                _begin(path, work, key)
            else:
                _compare(read_json(work / "run.json"), key, path)
        output.resume()
        try:
            yield output
        finally:
            output.close()


def check_output(path: Path) -> None:
    """Refuse an output that cannot be written, before a model is loaded.

    Raises:
        UsageError: its format, or its folder does not exist.
        UnsupportedError: the package that writes Parquet is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(f"{path} is in no known format", hint=f"Name it {', '.join(FORMATS)}.", path=str(path))
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint=f"Name a file in it: {path / 'out.jsonl'}", path=str(path))
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist", hint=f"Create it: mkdir -p {path.parent}")
    if suffix == ".parquet":
        _table()


def _opened(path: Path, work: Path) -> Output:
    check_output(path)
    return (ParquetParts if path.suffix.lower() == ".parquet" else JsonLines)(path, work)


def _begin(path: Path, work: Path, key: RunKey) -> None:
    if path.exists():
        (work / "lock").unlink(missing_ok=True)
        work.rmdir()
        raise UsageError(
            f"{path} exists, and is not an unfinished run",
            hint="Pass --restart to write it again, or choose another --output.",
            path=str(path),
        )
    write_atomic(work / "run.json", json.dumps(key.to_dict(), indent=1), flush=True)


def _compare(before: Mapping[str, Any], key: RunKey, path: Path) -> None:
    now = key.to_dict()
    what = {
        "input": "the input has changed",
        "columns": "other columns are chosen",
        "model": f"the model was {before.get('model')}, and is {key.model}",
        "options": f"the options were {json.dumps(before.get('options'))}, and are {json.dumps(now['options'])}",
    }
    changed = [text for name, text in what.items() if before.get(name) != now[name]]
    if changed:
        raise UsageError(
            f"{path} is an unfinished run that cannot be continued: {'; '.join(changed)}",
            hint="Pass --restart to begin again, or choose another --output.",
            path=str(path),
        )


def _forget(path: Path, work: Path) -> None:
    """Delete an output and its parts; the lock stays."""
    for file in (path, errors_path(path), *(found for found in work.iterdir() if found.name != "lock")):
        delete(file)


def _whole_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that end; none of a file that does not exist."""
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line


def _append(file: BinaryIO, values: Sequence[Mapping[str, Any]]) -> None:
    lines = [json.dumps(value, ensure_ascii=False, default=_plain) for value in values]
    view = memoryview("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
    while view:
        view = view[file.write(view) :]
    file.flush()


def _plain(value: Any) -> Any:
    """Arrays as lists."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _table() -> ModuleType:
    from gpux.pipelines.rows import table  # needs pyarrow

    return table
