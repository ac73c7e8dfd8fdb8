"""Runs over rows: one result for each, kept through kills and full disks, continued without doubling or losing any."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from gpux import pipeline
from gpux.errors import DiskFullError, GpuxError, NotWritableError, UnsupportedError, UsageError
from gpux.pipelines.base import Pipeline
from gpux.pipelines.rows.answering import RowsSummary, answer_rows, run_key
from gpux.pipelines.rows.reading import open_rows
from gpux.pipelines.rows.source import Columns
from gpux.pipelines.rows.writing import JsonLines, RunKey, check_output, errors_path, open_output
from tests.pipelines.conftest import Build

ROWS = 200
#: Rows that cannot be answered.
BAD = (3, 77, 150)

#: A run that kills itself, or that meets a full disk, after a number of windows.
PROGRAM = """
import os, pickle, resource, signal, sys
from pathlib import Path
from gpux import pipeline
from gpux.errors import DiskFullError
from gpux.pipelines.rows.answering import answer_rows, run_key
from gpux.pipelines.rows.reading import open_rows
from gpux.pipelines.rows.source import Columns
from gpux.pipelines.rows import writing
model, source, target, fault = sys.argv[1:]
writing._PART_ROWS = 50
rows = open_rows(Path(source), Columns())
calls = []
def progress(done, failed):
    calls.append(done)
    if fault == "kill" and len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
if fault == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000 if target.endswith("jsonl") else 2000, resource.RLIM_INFINITY))
with pipeline(model=pickle.loads(Path(model).read_bytes()), device="cpu") as pipe:
    try:
        with writing.open_output(Path(target), run_key(rows, pipe, {})) as output:
            answer_rows(pipe, rows, output, progress)
    except DiskFullError as error:
        print(error.hint)
        sys.exit(error.exit_code)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Texts with ids, a few of them invalid."""
    lines = [json.dumps({"id": index, "text": None if index in BAD else f"a fox {index}"}) for index in range(ROWS)]
    file = tmp_path / "in.jsonl"
    file.write_text("\n".join(lines))
    return file


@pytest.fixture
def pipe(build: Build) -> Iterator[Pipeline]:
    with pipeline(model=build("text-classification"), device="cpu") as opened:
        yield opened


def answered(pipe: Pipeline, source: Path, target: Path, **options: Any) -> RowsSummary:
    rows = open_rows(source, Columns())
    with open_output(target, run_key(rows, pipe, {}), **options) as output:
        return answer_rows(pipe, rows, output, lambda done, failed: None)


def results(target: Path) -> list[dict[str, Any]]:
    if target.suffix == ".parquet":
        found: list[dict[str, Any]] = parquet.read_table(target).to_pylist()
        return [{key: value for key, value in row.items() if value is not None} for row in found]
    return [json.loads(line) for line in target.read_text().splitlines()]


def check(pipe: Pipeline, target: Path) -> None:
    """One result for each row, in order; the answers those of the pipeline, the bad rows apart with their reasons."""
    found = results(target)
    assert [row["row"] for row in found] == list(range(ROWS)) and [row["id"] for row in found] == list(range(ROWS))
    assert tuple(row["row"] for row in found if "error" in row) == BAD
    assert found[3]["error"] == {"code": "input", "message": "input 3 is NoneType, neither a text nor a pair"}
    for row in (0, 76, 199):
        expected = pipe.answers([f"a fox {row}"])[0]
        assert found[row]["answer"]["label"] == expected["label"]
        assert found[row]["answer"]["score"] == pytest.approx(expected["score"], abs=1e-5)
    failures = [json.loads(line) for line in errors_path(target).read_text().splitlines()]
    assert tuple(entry["row"] for entry in failures) == BAD
    assert failures[0]["id"] == 3 and failures[0]["input"] == "None" and "hint" in failures[0]["error"]
    assert not list(target.parent.glob("*.run"))


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_each_row_has_a_result_and_bad_rows_stand_apart(
    pipe: Pipeline, source: Path, tmp_path: Path, name: str
) -> None:
    summary = answered(pipe, source, tmp_path / name)
    assert (summary.rows, summary.failed, summary.continued) == (ROWS, len(BAD), 0)
    assert summary.to_dict()["rows_per_second"] > 0
    check(pipe, tmp_path / name)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and RLIMIT_FSIZE")
@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize("fault", ["kill", "full"])
def test_a_stopped_run_is_continued(pipe: Pipeline, source: Path, tmp_path: Path, name: str, fault: str) -> None:
    model, target = tmp_path / "model.pickle", tmp_path / name
    model.write_bytes(pickle.dumps(pipe.model))
    command = [sys.executable, "-c", PROGRAM, str(model), str(source), str(target), fault]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == (-9 if fault == "kill" else DiskFullError.exit_code), done.stderr
    if fault == "full":
        assert done.stdout.startswith("Free space, then run the same command again")
    summary = answered(pipe, source, target)
    assert summary.rows == ROWS
    if name == "out.jsonl" or fault == "kill":
        assert 0 < summary.continued < ROWS
    check(pipe, target)


@pytest.mark.parametrize("tail", [b'{"row": 4, "id": 4, "ans', b"\0" * 64, b"\0" * 64 + b"\n"])
def test_an_unfinished_last_line_is_cut(pipe: Pipeline, source: Path, tmp_path: Path, tail: bytes) -> None:
    """Half a line of a kill, and zeros of a power cut; errors of rows that did not reach the output go with them."""
    target = tmp_path / "out.jsonl"
    answered(pipe, source, target)
    whole = target.read_bytes()
    rows = open_rows(source, Columns())
    with open_output(tmp_path / "begun.jsonl", run_key(rows, pipe, {})):
        pass
    target = tmp_path / "begun.jsonl"
    target.write_bytes(b"".join(whole.splitlines(keepends=True)[:4]) + tail)
    errors_path(target).write_bytes(errors_path(tmp_path / "out.jsonl").read_bytes())
    assert answered(pipe, source, target).continued == 4
    check(pipe, target)


def test_a_complete_output_is_not_written_over(pipe: Pipeline, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    answered(pipe, source, target)
    before = target.read_bytes()
    with pytest.raises(UsageError, match=r"out\.jsonl exists, and is not an unfinished run") as caught:
        answered(pipe, source, target)
    assert "--restart" in str(caught.value.hint) and target.read_bytes() == before
    assert not list(tmp_path.glob("*.run"))
    assert answered(pipe, source, target, restart=True).continued == 0
    check(pipe, target)


def test_a_run_of_something_else_is_refused(pipe: Pipeline, source: Path, tmp_path: Path) -> None:
    target, key = tmp_path / "out.jsonl", RunKey("a" * 64, ["text"], "hf:org/name@1:fp32", {"top_k": 2})
    with open_output(target, key):
        pass
    for other, message in (
        (RunKey("b" * 64, ["text"], key.model, key.options), "the input has changed"),
        (RunKey(key.input, ["body"], key.model, key.options), "other columns are chosen"),
        (RunKey(key.input, ["text"], "hf:org/name@2:fp32", key.options), "the model was hf:org/name@1:fp32, and is"),
        (RunKey(key.input, ["text"], key.model, {}), r'the options were {"top_k": 2}, and are {}'),
    ):
        with pytest.raises(UsageError, match=message) as caught, open_output(target, other):
            pass
        assert "--restart" in str(caught.value.hint)
    with open_output(target, key) as output:
        assert output.done == 0
    assert answered(pipe, source, target, restart=True).rows == ROWS


def test_two_runs_into_one_output(pipe: Pipeline, source: Path, tmp_path: Path) -> None:
    key = RunKey("a" * 64, [], "m", {})
    with (
        open_output(tmp_path / "out.jsonl", key),
        pytest.raises(UsageError, match="another process writes"),
        open_output(tmp_path / "out.jsonl", key),
    ):
        pass


def test_outputs_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    for name, message in (
        ("out.csv", "in no known format"),
        ("folder.jsonl", "is a folder"),
        ("none/out.jsonl", "does not exist"),
    ):
        with pytest.raises(UsageError, match=message):
            check_output(tmp_path / name)
    (tmp_path / "out.jsonl.run").write_text("a file in the place of the folder")
    with pytest.raises(NotWritableError) as caught, open_output(tmp_path / "out.jsonl", RunKey("", [], "", {})):
        pass
    assert caught.value.hint == "Choose another --output."
    if Path("/proc/self").exists():
        with pytest.raises(NotWritableError, match="/proc"), open_output(Path("/proc/o.jsonl"), RunKey("", [], "", {})):
            pass
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "gpux.pipelines.rows.table", raising=False)
    monkeypatch.delattr("gpux.pipelines.rows.table", raising=False)
    with pytest.raises(UnsupportedError, match="Parquet needs pyarrow"):
        check_output(tmp_path / "out.parquet")


def parts(tmp_path: Path, *answers: list[Any]) -> Any:
    """The answers in Parquet, each list in a part of its own."""
    from gpux.pipelines.rows.table import merge_parts, write_part

    files, row = [], 0
    for number, part in enumerate(answers):
        files.append(tmp_path / f"{number}.parquet")
        write_part([{"row": row + place, "answer": answer} for place, answer in enumerate(part)], files[-1])
        row += len(part)
    merge_parts(files, tmp_path / "whole.parquet")
    return parquet.read_table(tmp_path / "whole.parquet")


def test_vectors_are_float32_lists_in_parquet(tmp_path: Path) -> None:
    table = parts(tmp_path, [[0.5, 1.0], None], [[0.25, 2.0]])
    assert str(table.schema.field("answer").type.value_type) == "float"
    assert table.column("answer").to_pylist() == [[0.5, 1.0], None, [0.25, 2.0]]


def test_answers_of_several_types_in_parquet(tmp_path: Path) -> None:
    wider = parts(tmp_path, [{"a": 1}], [{"a": 2, "b": "x"}], [None])
    assert wider.column("answer").to_pylist() == [{"a": 1, "b": None}, {"a": 2, "b": "x"}, None]
    mixed = parts(tmp_path, [{"a": 1}], [["é"], 5], [None])
    assert mixed.column("answer").to_pylist() == ['{"a": 1}', '["é"]', "5", None]
    assert parts(tmp_path).num_rows == 0


def test_an_empty_input_gives_an_empty_output(pipe: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("")
    for name in ("out.jsonl", "out.parquet"):
        assert answered(pipe, tmp_path / "in.txt", tmp_path / name).rows == 0
        assert results(tmp_path / name) == []
        assert not errors_path(tmp_path / name).exists()


def test_an_error_that_no_row_causes_ends_the_run_and_keeps_the_output(
    pipe: Pipeline, source: Path, tmp_path: Path
) -> None:
    rows = open_rows(source, Columns())

    def progress(done: int, failed: int) -> None:
        if done:
            raise GpuxError("the caller stops")

    with (
        pytest.raises(GpuxError, match="the caller stops"),
        open_output(tmp_path / "out.jsonl", run_key(rows, pipe, {})) as output,
    ):
        answer_rows(pipe, rows, output, progress)
    assert isinstance(output, JsonLines) and (tmp_path / "out.jsonl").stat().st_size > 0
    assert answered(pipe, source, tmp_path / "out.jsonl").continued == 32
    check(pipe, tmp_path / "out.jsonl")
