"""The parts of the matrix of generation: what counts as equal, as a near tie and as wrong, and what the page says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripts.generation_checks import Tally
from scripts.generation_report import write_report
from scripts.generation_shard import request_for

from gpux.runtime.generation.loops.beams import Beam

WANTED = {"tokens": [5, 6, 7], "gaps": [0.5, 0.00005, 0.5]}


@pytest.mark.parametrize(
    ("found", "counted"),
    [
        ([5, 6, 7], (1, 0, 0)),
        ([5, 9, 9], (0, 1, 0)),  # torch could hardly choose there
        ([5, 6, 9], (0, 0, 1)),
        ([9, 9, 9], (0, 0, 1)),
        ([5, 6], (0, 0, 1)),
        ([5, 6, 7, 8], (0, 0, 1)),
        ([], (0, 0, 1)),
    ],
)
def test_a_row_against_its_reference(found: list[int], counted: tuple[int, int, int]) -> None:
    tally = Tally()
    tally.count("a row", found, WANTED)
    assert (tally.equal, tally.ties, len(tally.wrong)) == counted


def test_a_row_at_which_torch_differs_from_itself() -> None:
    expected = {**WANTED, "uncached": [5, 6, 9]}
    tally = Tally()
    tally.count("its other token", [5, 6, 9], expected)
    tally.count("a third token", [5, 6, 8], expected)
    tally.count("an early end", [5, 6], expected)
    assert (tally.equal, tally.ties, tally.unsteady, len(tally.wrong)) == (0, 0, 1, 2)


@pytest.mark.parametrize(
    ("tokens", "score", "counted"),
    [
        ((5, 6), -1.0, (1, 0, 0)),
        ((5, 7), -1.00002, (0, 1, 0)),
        ((5, 7), -1.01, (0, 0, 1)),
        ((5, 6, 7), -1.0, (0, 0, 1)),
    ],
)
def test_beams_against_their_reference(tokens: tuple[int, ...], score: float, counted: tuple[int, int, int]) -> None:
    tally = Tally()
    tally.count_beams("a row", [Beam(tokens, score, "eos")], [{"tokens": [5, 6], "score": -1.0}], 1.0)
    assert (tally.equal, tally.ties, len(tally.wrong)) == counted


def test_requests_are_the_same_for_every_variant(tmp_path: Path) -> None:
    request = request_for("llama__text-generation-with-past", tmp_path, 128)
    assert request == request_for("llama__text-generation-with-past", tmp_path, 128)
    assert request["prompts"] != request_for("gpt2__text-generation-with-past", tmp_path, 128)["prompts"]
    assert [len(prompt) for prompt in request["prompts"]] == [9, 3, 20, 14]
    assert request_for("phi3+longrope__text-generation-with-past", tmp_path, 32)["room"] == 12


def row(name: str, **values: Any) -> dict[str, Any]:
    model_type, _, task = name.partition("__")
    known = {"name": name, "model_type": model_type, "hub_task": task.removesuffix("-with-past"), "group": "zoo"}
    check = {"equal": 3, "ties": 1, "wrong": []}
    more = {
        "requested_converter": "optimum",
        "recipe": "optimum",
        "expected_error": None,
        "status": "equal",
        "checks": {"ragged": check},
    }
    return {**known, **more, **values}


def test_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    refused = {"status": "refused", "recipe": None, "checks": {}, "error": "UnsupportedError", "message": "no | /a/b/c"}
    rows = [
        row("gpt2__text-generation-with-past"),
        row("gpt2__text-generation-with-past", requested_converter="mobius", **refused),
        row("mamba__text-generation-with-past", **refused),
    ]
    assert write_report(rows, page, write=True) == 0
    text = page.read_text(encoding="utf-8")
    assert "| gpt2 | text-generation | optimum | equal |  | 3 + 1 near ties of 4 |" in text
    assert "| mamba | text-generation |  | refused |" in text
    assert r"no \| c" in text
    assert text.count("gpt2") == 1
    assert "| ragged 4 | 4 | 3 | 1 | 0 | 0 |" in capsys.readouterr().out


def test_differences_exit_with_1(tmp_path: Path) -> None:
    check = {"equal": 3, "ties": 0, "wrong": ["row 1: token 3: 4 instead of 5"]}
    wrong = row("gpt2__text-generation-with-past", status="WRONG", checks={"ragged": check})
    assert write_report([wrong], tmp_path / "page.md", write=True) == 1
    assert "token 3: 4 instead of 5" in (tmp_path / "page.md").read_text(encoding="utf-8")
    assert write_report([wrong], tmp_path / "none.md", write=False) == 1
    assert not (tmp_path / "none.md").exists()
