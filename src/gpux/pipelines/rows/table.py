"""Parquet, by pyarrow (extra ``table``): rows of a file, and answers as parts that are merged at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from gpux.errors import UnsupportedError, UsageError
from gpux.pipelines.rows.source import Row, Rows
from gpux.system.files import replacing

try:
    import pyarrow
    from pyarrow import parquet
except ImportError as exc:
    raise UnsupportedError(
        "Parquet needs pyarrow, which is not installed", hint="Run `pip install 'gpux[table]'`, or use .jsonl."
    ) from exc

#: Rows that are read at once: pictures in a table may be large.
_READ = 256
_ERROR = pyarrow.struct([("code", pyarrow.string()), ("message", pyarrow.string())])
_FAILED = (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError)


class ParquetRows(Rows):
    """The rows of a Parquet file; columns that make no input are not read."""

    def _read(self) -> Iterator[Row]:
        try:
            with parquet.ParquetFile(self.path) as file:
                names = file.schema_arrow.names
                columns = self.columns.found(self.path, names)
                wanted = list(dict.fromkeys((*columns.values(), *(name for name in names if name == "id"))))
                number = 0
                for batch in file.iter_batches(batch_size=_READ, columns=wanted):
                    for record in batch.to_pylist():
                        yield self._row(number, record, columns)
                        number += 1
        except pyarrow.ArrowInvalid as exc:
            raise UsageError(f"{self.path} is not Parquet: {exc}", path=str(self.path)) from exc

    @cached_property
    def total(self) -> int:
        """Number of rows, from the file's metadata."""
        return int(parquet.read_metadata(self.path).num_rows)


def write_part(results: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Write results as one Parquet file, whole or not at all.

    Args:
        results: dicts with ``row``, and with ``id``, ``path``, ``answer`` and ``error`` where they have them.
        target: replaced if it exists.

    Raises:
        OSError: the disk refuses.
    """
    names = [name for name in ("id", "path") if any(name in result for result in results)]
    answers, as_json = _answers([result.get("answer") for result in results])
    arrays = {
        "row": pyarrow.array([result["row"] for result in results], pyarrow.int64()),
        **{name: _same([result.get(name) for result in results]) for name in names},
        "answer": answers,
        "error": pyarrow.array([_error(result.get("error")) for result in results], _ERROR),
    }
    with replacing(target) as temporary, temporary.open("wb") as file:
        parquet.write_table(pyarrow.table(arrays).replace_schema_metadata(_MARK if as_json else {}), file)


def merge_parts(parts: Sequence[Path], target: Path) -> None:
    """One Parquet file of all parts, whole or not at all; answers that have no common type are JSON.

    Raises:
        OSError: the disk refuses.
    """
    schemas = [parquet.read_schema(part) for part in parts] or [_EMPTY]
    as_json = any(_is_json(schema) for schema in schemas)
    try:
        if not as_json:
            _merge(parts, _unified(schemas), target, as_json=False)
    except _FAILED:
        as_json = True
    if as_json:
        _merge(parts, _unified([_with_json(schema) for schema in schemas]), target, as_json=True)


_EMPTY = pyarrow.schema([("row", pyarrow.int64()), ("answer", pyarrow.string()), ("error", _ERROR)])
#: In a part whose answers are JSON, since they have no common type.
_MARK = {"gpux": "json"}


def _is_json(schema: Any) -> bool:
    return (schema.metadata or {}).get(b"gpux") == b"json"


def _unified(schemas: Sequence[Any]) -> Any:
    return pyarrow.unify_schemas([schema.remove_metadata() for schema in schemas], promote_options="permissive")


def _merge(parts: Sequence[Path], schema: Any, target: Path, *, as_json: bool) -> None:
    with replacing(target) as temporary, temporary.open("wb") as file, parquet.ParquetWriter(file, schema) as writer:
        for part in parts:
            table = parquet.ParquetFile(part).read()
            if as_json and not _is_json(table.schema):
                place = table.schema.get_field_index("answer")
                table = table.set_column(place, "answer", _json(table.column(place).to_pylist()))
            table = pyarrow.concat_tables([schema.empty_table(), table], promote_options="permissive")
            writer.write_table(table.select(schema.names).cast(schema))


def _with_json(schema: Any) -> Any:
    return schema.set(schema.get_field_index("answer"), pyarrow.field("answer", pyarrow.string()))


def _same(values: Sequence[Any]) -> Any:
    """Ids: numbers, or texts where one is a text."""
    if all(value is None or isinstance(value, int) for value in values):
        return pyarrow.array(values, pyarrow.int64())
    return pyarrow.array([None if value is None else str(value) for value in values], pyarrow.string())


def _answers(values: Sequence[Any]) -> tuple[Any, bool]:
    """The answers as an array, and whether they are JSON."""
    try:
        found = pyarrow.array(values)
        return found.cast(_single(found.type)), False
    except _FAILED:
        return _json(values), True


def _single(kind: Any) -> Any:
    """The type with float32 for the numbers of a vector, which is what graphs give."""
    if not pyarrow.types.is_list(kind):
        return kind
    inner = kind.value_type
    return pyarrow.list_(pyarrow.float32() if pyarrow.types.is_float64(inner) else _single(inner))


def _json(values: Sequence[Any]) -> Any:
    texts = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
    return pyarrow.array(texts, pyarrow.string())


def _error(error: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return None if error is None else {"code": error["code"], "message": error["message"]}
