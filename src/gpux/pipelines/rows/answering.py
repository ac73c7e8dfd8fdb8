"""Answers a file of rows into a file of answers, in windows; invalid rows stand apart with their reasons."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from gpux.errors import GpuxError
from gpux.pipelines.base import Pipeline
from gpux.pipelines.batching import kept, placed, windows
from gpux.pipelines.rows.source import Row, Rows
from gpux.pipelines.rows.writing import Output, RunKey

#: Characters of an input in the file of errors.
_SHOWN = 500
#: Called with the number of rows that are done and of those that failed.
RowProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class RowsSummary:
    """The result of a run over rows."""

    rows: int  #: in the output
    failed: int  #: of these
    continued: int  #: rows that an earlier run had written
    seconds: float  #: of this run

    @property
    def per_second(self) -> float:
        """Rows of this run per second."""
        return (self.rows - self.continued) / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "rows_per_second": round(self.per_second, 2)}


def run_key(rows: Rows, pipe: Pipeline, options: Mapping[str, Any]) -> RunKey:
    """What a run of these rows through this pipeline is of."""
    manifest = pipe.model.manifest
    model = f"{manifest.scheme}:{manifest.id}@{manifest.commit}:{manifest.precision} ({manifest.recipe}), {pipe.task}"
    return RunKey(rows.digest, list(rows.columns.chosen), model, options)


def answer_rows(pipe: Pipeline, rows: Rows, output: Output, progress: RowProgress) -> RowsSummary:
    """Answer the rows that are not in the output yet, and complete it.

    Raises:
        DiskFullError: no space for the output; a second run continues.
        GpuxError: an error that no single row causes.
    """
    begun, continued = time.monotonic(), output.done
    progress(output.done, output.failed)
    for answered in answer_windows(pipe, islice(rows, output.done, None)):
        results = [result_of(row, answer) for row, answer in answered]
        errors = [_error_entry(row, answer) for row, answer in answered if isinstance(answer, GpuxError)]
        output.write(results, errors)
        progress(output.done, output.failed)
    output.finish()
    return RowsSummary(output.done, output.failed, continued, time.monotonic() - begun)


def answer_windows(pipe: Pipeline, rows: Iterable[Row]) -> Iterator[list[tuple[Row, Any]]]:
    """Rows with their answers, or with the :class:`GpuxError` of a row that has none, a window at a time."""
    for _, part in windows(rows, pipe.window_size):
        good = [row for row in part if not isinstance(row.value, GpuxError)]
        answers = iter(kept(partial(_answers, pipe), [row.value for row in good]))
        found = [(row, row.value if isinstance(row.value, GpuxError) else next(answers)) for row in part]
        yield [(row, placed(one, row.number) if isinstance(one, GpuxError) else one) for row, one in found]


def _answers(pipe: Pipeline, inputs: Sequence[Any]) -> Sequence[Any]:
    return pipe.answers(inputs) if inputs else []


def result_of(row: Row, answer: Any) -> dict[str, Any]:
    """The row of an output."""
    found = {"row": row.number, **row.names}
    if isinstance(answer, GpuxError):
        return {**found, "error": {"code": answer.code, "message": answer.message}}
    return {**found, "answer": answer}


def _error_entry(row: Row, error: GpuxError) -> dict[str, Any]:
    reason = {"code": error.code, "message": error.message, "hint": error.hint}
    return {"row": row.number, **row.names, "input": _shown(row.value), "error": reason}


def _shown(value: Any) -> str | None:
    """The beginning of an input; None for one that could not be read."""
    if isinstance(value, GpuxError):
        return None
    text = f"{len(value)} bytes" if isinstance(value, bytes) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"


def same_file(first: Path, second: Path) -> bool:
    """Whether two paths are one file."""
    return first.exists() and second.exists() and first.samefile(second)
