"""`gpux run` as it is typed: odd texts, no standard input, damaged variants; and what their repair says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from PIL import Image
from pyarrow import parquet

from gpux import Settings, pull_model
from gpux.cli.main import run
from gpux.cli.run import _save
from gpux.cli.terminal import Terminal
from gpux.errors import InputError, SessionError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.rows import answering
from gpux.pipelines.rows.answering import answer_windows
from gpux.pipelines.rows.source import Row

if TYPE_CHECKING:
    from gpux.pipelines.base import Pipeline

pytestmark = pytest.mark.hub

Captured = pytest.CaptureFixture[str]
ID = "tiny/classify"
RUN = [sys.executable, "-m", "gpux", "run", ID]


@pytest.fixture
def model(settings: Settings) -> StoredModel:
    return pull_model(ID, settings=settings)


@pytest.mark.parametrize("errors", ["surrogateescape", "strict"])
def test_bytes_that_are_no_text(model: StoredModel, errors: str) -> None:
    """Python decodes standard input by the locale: the C locale lets odd bytes through, others are strict."""
    environ = {**os.environ, "PYTHONIOENCODING": f"utf-8:{errors}"}
    done = subprocess.run(RUN, input=b"fine\na\xff\xfe b\n", capture_output=True, env=environ)
    assert done.stderr.startswith(b"error: text 1 is not valid Unicode text: a lone surrogate, U+DCFF, at character 1")
    assert (done.returncode, done.stdout) == (InputError.exit_code, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell closes it")
def test_no_standard_input(model: StoredModel) -> None:
    for arguments in ([], ["-"]):
        command = ["sh", "-c", '"$@" <&-', "sh", *RUN, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stderr.startswith("error: no input text")
        assert done.returncode == 2


def test_a_line_in_a_pipe_has_three_cells(model: StoredModel, capsys: Captured) -> None:
    assert run(["run", ID, "a\tb\r\nc\\d", "plain é"]) == 0
    first, second = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert (first[0], len(first)) == (r"a\tb\r\nc\\d", 3)
    assert (second[0], len(second)) == ("plain é", 3)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.onnx"])
def test_a_file_of_the_variant_is_gone(model: StoredModel, name: str, capsys: Captured) -> None:
    (model.path / name).unlink()
    assert run(["run", ID, "a"]) == 6
    remarks = capsys.readouterr().err
    assert f"{ID} has lost {name}" in remarks and "Run `gpux verify --repair`." in remarks
    assert run(["verify", "--repair", ID]) == 0 and run(["run", ID, "a"]) == 0


def test_an_emptied_graph(model: StoredModel, capsys: Captured) -> None:
    (model.path / "model.onnx").write_bytes(b"")
    assert run(["run", ID, "a", "--device", "cpu"]) == SessionError.exit_code
    assert "Run `gpux verify --repair`" in capsys.readouterr().err


def test_an_onnx_file_without_tokenizer(model: StoredModel, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "alone").mkdir()
    file = tmp_path / "alone" / "model.onnx"
    file.write_bytes((model.path / "model.onnx").read_bytes())
    assert run(["run", str(file), "a", "--task", "text-classification"]) != 0
    remarks = capsys.readouterr().err
    assert "has no tokenizer.json" in remarks and "--force" not in remarks


def test_repair_reports_removed_files(model: StoredModel, capsys: Captured) -> None:
    for name in ("stray", "other"):
        (model.path / name).write_text("")
    (model.path / "config.json").unlink()
    assert run(["verify", "--repair", ID]) == 0
    assert "restored: copied from its source files, removed 2 files that do not belong" in capsys.readouterr().err
    (model.path / "stray").write_text("")
    assert run(["verify", "--repair", ID, "--json", "--store-only"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["repair"]["method"] == "removed"
    assert entry["repair"]["message"] == "removed 1 file that does not belong"
    assert not (model.path / "stray").exists()


def test_rows_of_a_file(model: StoredModel, tmp_path: Path, capsys: Captured) -> None:
    source, target = tmp_path / "in.csv", tmp_path / "out.jsonl"
    source.write_text("id,body\na,one\nb,two\n")
    assert run(["run", ID, "--input", str(source), "--output", str(target), "--column", "body", "--top-k", "1"]) == 0
    assert "✓ 2 rows in" in capsys.readouterr().err
    first, second = (json.loads(line) for line in target.read_text().splitlines())
    assert (first["row"], first["id"], len(first["answer"]), second["id"]) == (0, "a", 1, "b")
    command = ["run", ID, "--input", str(source), "--column", "body"]
    assert run([*command, "--output", str(target)]) == 2
    assert "Pass --restart to write it again" in capsys.readouterr().err
    assert run([*command, "--output", str(target), "--restart", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows"], summary["failed"], summary["output"]) == (2, 0, str(target))
    assert run(command) == 0
    assert [json.loads(line)["row"] for line in capsys.readouterr().out.splitlines()] == [0, 1]


def test_rows_that_fail_are_counted_in_the_exit_code(model: StoredModel, tmp_path: Path, capsys: Captured) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    source.write_text('"one"\n5\n')
    assert run(["run", ID, "--input", str(source), "--output", str(target)]) == InputError.exit_code
    assert f"{tmp_path / 'out.errors.jsonl'} has their inputs and reasons" in capsys.readouterr().err
    assert run(["run", ID, "--input", str(source)]) == InputError.exit_code
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2 and "1 row failed" in captured.err


def test_an_interrupted_run_is_continued(
    model: StoredModel, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.parquet"
    source.write_text("one\n" * 100)
    command = ["run", ID, "--input", str(source), "--output", str(target)]

    def interrupted(pipe: Pipeline, rows: Iterable[Row]) -> Iterator[Any]:
        yield next(answer_windows(pipe, rows))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(answering, "answer_windows", interrupted)
        assert run(command) == 130
    assert f"interrupted: {target} has 32 rows" in capsys.readouterr().err
    assert run(command) == 0
    assert "Continuing" in capsys.readouterr().err and len(parquet.read_table(target)) == 100


REFUSED = [
    (["a", "--output", "o.jsonl"], "--output is for the rows of a file"),
    (["a", "--input", "i.txt"], "inputs are given twice"),
    (["--input", "none.txt"], "none.txt does not exist"),
    (["--input", "i.txt", "--output", "o.txt"], "o.txt is in no known format"),
    (["--input", "i.txt", "--save", "x.png"], "--save is for single inputs"),
    (["a", "--save", "x.png"], "an answer of text-classification has no picture"),
    (["a", "--option", "top_k"], "--option top_k has no value"),
    (["a", "--option", "top_k=many"], "top_k of text-classification is 'many', and must be a whole number"),
    (["a", "--function-to-apply", "sgmoid"], "must be softmax, sigmoid or none"),
    (["a", "--max-new-tokens", "3"], "text-classification has no option max_new_tokens"),
    (["a", "--top-kk", "3"], "No such option '--top-kk'"),
]


def test_arguments_that_are_refused(
    model: StoredModel, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("i.txt").write_text("one\n")
    for arguments, message in REFUSED:
        assert run(["run", ID, *arguments]) in (2, 7)
        assert message in capsys.readouterr().err


def test_options_of_a_task_have_flags(model: StoredModel, capsys: Captured) -> None:
    assert run(["run", ID, "--function-to-apply", "none", "a", "--return-all-scores=1"]) == 2
    assert "No such option" in capsys.readouterr().err
    outputs = []
    for arguments in (["--function-to-apply=none"], ["--option", "function_to_apply=none"], ["--top-k", "2"], []):
        assert run(["run", ID, "a", *arguments]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[3] and len(outputs[2].splitlines()) == 2
    assert run(["run", ID, "--", "--function-to-apply"]) == 0
    assert capsys.readouterr().out.startswith("--function-to-apply\t")


def test_an_option_of_another_task_of_the_model_names_the_task(model: StoredModel, capsys: Captured) -> None:
    command = ["run", ID, "a", "--candidate-labels", "near, far"]
    assert run(command) == 2
    hint = "zero-shot-classification has it: add --task zero-shot-classification."
    assert hint in capsys.readouterr().err
    assert run([*command, "--task", "zero-shot-classification"]) == 0
    assert {line.rpartition("\t")[2] for line in capsys.readouterr().out.splitlines()} == {"near", "far"}


class Drawing:
    """What `--save` calls of a pipeline."""

    def picture(self, inputs: Any, answer: str) -> Image.Image:
        return Image.new(answer, (3, 2))


def test_pictures_of_answers_are_saved(tmp_path: Path, capsys: Captured) -> None:
    terminal, pipe = Terminal(as_json=False, quiet=False), cast("Pipeline", Drawing())
    _save(terminal, pipe, tmp_path / "new" / "one.jpg", [Path("a.png")], ["RGB"])
    with Image.open(tmp_path / "new" / "one.jpg") as saved:
        assert saved.size == (3, 2)
    values = [Path("a/x.png"), Path("b/x.jpg"), b"bytes"]
    _save(terminal, pipe, tmp_path / "several", values, ["RGB"] * 3)
    assert sorted(file.name for file in (tmp_path / "several").iterdir()) == ["input-2.png", "x-1.png", "x.png"]
    with pytest.raises(UsageError, match="is one picture, and there are 2") as caught:
        _save(terminal, pipe, tmp_path / "one.png", values[:2], ["RGB", "RGB"])
    assert caught.value.hint == "Name a folder: --save one/"
    with pytest.raises(UsageError, match=r"one\.jpg cannot be written: cannot write mode RGBA as JPEG") as caught:
        _save(terminal, pipe, tmp_path / "one.jpg", values[:1], ["RGBA"])
    assert caught.value.hint == "Name it .png."
    _save(terminal, pipe, tmp_path / "one.png", values[:1], ["RGBA"])
    assert "✓" in capsys.readouterr().err
