"""The list of tasks, and a task that another package adds, as docs/how-to/extend.md shows it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from onnx import TensorProto, helper, save
from scripts.update_proven_types import TARGET, proven_types

import gpux
from gpux.cli.main import run
from gpux.errors import UnsupportedTaskError
from gpux.pipelines.registry import pipelines
from gpux.pipelines.tasks import task_info

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parent.parent.parent


def test_every_task_is_listed_with_its_options() -> None:
    found = {info.name: info for info in gpux.tasks()}
    assert list(found) == sorted(pipelines())
    text = found["text-classification"]
    assert (text.takes, text.extra, text.package, text.summary) == (
        "text", None, "gpux", "Labels with scores for texts and pairs of texts.",
    )  # fmt: skip
    assert "sentiment-analysis" in text.aliases and "zero-shot-classification" not in text.aliases
    assert {option.name for option in text.options} >= {"top_k", "batch_size"}
    assert found["summarization"].model_task == "text2text-generation"
    assert json.loads(json.dumps([info.to_dict() for info in found.values()]))
    assert all(info.summary and "`" not in info.summary for info in found.values() if not info.missing)


def test_a_task_by_its_alias_and_an_unknown_one() -> None:
    assert task_info("sentiment-analysis").name == "text-classification"
    assert "--candidate-labels" in task_info("zero-shot-classification").example
    assert '"question": "…"' in task_info("question-answering").example
    with pytest.raises(UnsupportedTaskError, match="no pipeline for the task 'juggling'"):
        task_info("juggling")


def test_proven_types_are_those_of_the_coverage_matrix() -> None:
    rows = json.loads((ROOT / "docs" / "coverage.json").read_text())
    assert json.loads(TARGET.read_text()) == proven_types(rows)
    assert "bert" in task_info("text-classification").model_types
    compared = {"status": "proven", "cases": 2}
    row = {"hub_task": "fill-mask", "base": "bert", "status": "proven", "answers": compared, "tokenizer": True}
    assert proven_types([row]) == {"fill-mask": ["bert"]}
    for other in ({"status": "refused"}, {"answers": None}, {"answers": {**compared, "status": "not compared"}}):
        assert proven_types([{**row, **other}]) == {}
    vision = {**row, "hub_task": "feature-extraction", "base": "vit", "tokenizer": False}
    assert proven_types([vision]) == {"image-feature-extraction": ["vit"]}


def test_the_commands_that_list_tasks(capsys: Captured) -> None:
    assert run(["tasks"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == sorted(pipelines()) and {len(row) for row in rows} == {5}
    assert run(["tasks", "fill-mask"]) == 0
    shown = capsys.readouterr().out
    assert "top_k\tint | None\t5\tcandidates for each mask" in shown and "distilbert" in shown
    assert run(["tasks", "fill-mask", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "fill-mask"
    assert run(["tasks", "fil-mask"]) == 7
    assert "Did you mean 'fill-mask'?" in capsys.readouterr().err


@pytest.fixture
def iris(tmp_path: Path) -> Path:
    """A folder with a graph from two numbers to the scores of two classes: the numbers themselves."""
    folder = tmp_path / "iris"
    (folder / "onnx").mkdir(parents=True)
    x, scores = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("x", "scores"))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["scores"])], "iris", [x], [scores])
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
        folder / "onnx" / "model.onnx",
    )
    (folder / "config.json").write_text('{"model_type": "iris"}')
    return folder


def test_a_task_of_another_package_as_the_page_shows_it(tmp_path: Path, iris: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "extend.md").read_text()
    package = tmp_path / "site"
    points = package / "flowers-1.0.dist-info" / "entry_points.txt"
    points.parent.mkdir(parents=True)
    (package / "flowers.py").write_text(re.findall(r"```python\n(# flowers\.py.*?)```", page, re.DOTALL)[0])
    (points.parent / "METADATA").write_text("Metadata-Version: 2.1\nName: flowers\nVersion: 1.0\n")
    points.write_text('[gpux.pipelines]\n"tabular-classification" = flowers:TabularPipeline\n'.replace('"', ""))
    (tmp_path / "rows.csv").write_text("length,width\n1,2\n4,3\nfour,3\n")
    environ = {**os.environ, "PYTHONPATH": str(package), "GPUX_HOME": str(tmp_path / "home")}

    def command(line: str) -> str:
        arguments = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", line)][1:]
        done = subprocess.run(
            [sys.executable, "-m", "gpux", *arguments], cwd=tmp_path, env=environ, capture_output=True, text=True
        )
        assert done.returncode in (0, 10), done.stderr
        return done.stdout

    shown, answer, _ = map(command, re.search(r"```\n(gpux tasks tab.*?)\n```", page, re.DOTALL)[1].splitlines())  # type: ignore[index] # the page has it
    assert "Classes of rows of numbers." in shown and "digits of a score" in shown and "flowers" in shown
    assert answer == "[5.1, 3.5]\t5.1000\tclass 0\n"
    first, second, third = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert first["answer"] == {"label": 1, "score": 2.0} and second["answer"]["label"] == 0
    assert third["error"]["message"] == "row 2 has something else than numbers"


def test_a_task_whose_extra_is_missing_is_listed_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "gpux.pipelines.vision.image_classification"
    monkeypatch.setitem(sys.modules, "PIL", None)
    for name in [name for name in sys.modules if name.startswith(("gpux.pipelines.vision", "gpux.processors.image"))]:
        monkeypatch.delitem(sys.modules, name)
    found = {info.name: info for info in gpux.tasks()}["image-classification"]
    assert found.missing == "Install it: pip install 'gpux[vision]'."
    monkeypatch.undo()
    import_module(module)
