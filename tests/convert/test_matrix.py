"""The coverage matrix: its entries, the verdict of a row, and the files that the rows are written to."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripts import coverage_matrix, coverage_report
from scripts.coverage_entries import chosen, entries
from scripts.coverage_preferences import preferences
from scripts.coverage_shard import read_rows
from scripts.coverage_verdict import ALLOWED, Verdict

from gpux import errors
from tests.models.zoo import FOLDERS


def row(name: str, **values: Any) -> dict[str, Any]:
    model_type, _, task = name.partition("__")
    base = model_type.partition("+")[0]
    known = {"name": name, "model_type": model_type, "base": base, "hub_task": task, "task": task, "group": "zoo"}
    return {**known, "requested_converter": None, "status": "proven", "recipe": "optimum", **values}


def test_every_entry_is_complete() -> None:
    found = list(entries())
    assert len({entry.name for entry in found}) == len(found)
    assert Counter(entry.group for entry in found)["zoo"] == 198
    assert Counter(entry.group for entry in found)["extra"] == 37
    assert not any(entry.hub_task.endswith("-with-past") for entry in found)


def test_shards_share_the_entries() -> None:
    both = [entry.name for number in (1, 2) for entry in chosen([], (number, 2))]
    assert sorted(both) == sorted(entry.name for entry in entries())


@pytest.mark.parametrize("named", ["bert", "bert__fill-mask", "fill-mask", "zoo"])
def test_entries_by_any_name(named: str) -> None:
    assert "bert__fill-mask" in {entry.name for entry in chosen([named], (1, 1))}
    assert "vit__image-classification" not in {entry.name for entry in chosen(["bert"], (1, 1))}


def test_expected_errors_exist() -> None:
    assert all(folder.error is None or hasattr(errors, folder.error) for folder in FOLDERS.values())


def test_the_last_row_counts(tmp_path: Path) -> None:
    file = tmp_path / "rows-1of1.jsonl"
    file.write_text("".join(json.dumps(row("a__b", status=status)) + "\n" for status in ("failed", "proven")))
    assert [found["status"] for found in read_rows([file, tmp_path / "none"])] == ["proven"]


def test_rows_are_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "rows-1of1.jsonl"
    file.write_text("".join(json.dumps(row(name, status=name[0])) + "\n" for name in ("x__t", "y__t", "z__t")))
    coverage_matrix.forget(tmp_path, ["x", "y__t"])
    assert [found["name"] for found in read_rows([file])] == ["z__t"]


def test_preferences() -> None:
    rows = [
        row("llama__text-generation", requested_converter="optimum", peak_rss=900_000_000, seconds=5),
        row("llama__text-generation", requested_converter="mobius", peak_rss=300_000_000, seconds=6, recipe="mobius"),
        row("llama+dynamic__text-generation", requested_converter="optimum", peak_rss=900_000_000, seconds=5),
        row("llama+dynamic__text-generation", requested_converter="mobius", status="refused"),
        row("gpt2__text-generation", requested_converter="optimum", peak_rss=310_000_000, seconds=5),
        row("gpt2__text-generation", requested_converter="mobius", peak_rss=300_000_000, seconds=4, recipe="mobius"),
        row("olmo__text-generation", requested_converter="mobius", status="WRONG", recipe="mobius"),
        row("olmo__text-generation", requested_converter="optimum", peak_rss=1, seconds=1),
        row("vit__image-classification"),
        row("fnet__fill-mask", status="refused"),
        row("slow-gpt2", group="folder"),
    ]
    assert preferences(rows) == {
        "text-generation": {"llama": ["optimum", "mobius"], "gpt2": ["mobius", "optimum"], "olmo": ["optimum"]},
        "image-classification": {"vit": ["optimum"]},
    }


def test_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs").mkdir()
    for room in ("convert", "pipelines"):
        (tmp_path / "src" / "gpux" / room).mkdir(parents=True)
    good = {"opinion": {"worst": 1e-6, "compared": 4}, "largest": 2e-6, "seconds": 5.2, "peak_rss": 400_000_000}
    wrong = {"status": "WRONG", "opinion": {"worst": 0.3, "compared": 4, "wrong": ["logits: 3.00e-01"]}}
    message = f"{tmp_path}/zoo/own-code cannot be converted"
    refused = {"group": "folder", "expected_error": "UnsupportedError", "status": "refused", "message": message}
    rows = [
        row("bert__fill-mask", **good, answers={"status": "proven", "cases": 9, "reason": ""}),
        row("gpt2__text-generation-with-past", **wrong, path="/home/x"),
        row("own-code", **refused, kinds=["UnsupportedArchitectureError", "UnsupportedError"]),
        row("no-weights", **refused, kinds=["ConversionError"]),
    ]

    assert coverage_report.write_report(rows, tmp_path, write=True) == 1

    counts = capsys.readouterr().out
    assert "| Registered by Optimum | 2 of 198 | 1 (50.0%) | ≥ 96% missed | 0 | 0 | 1 |" in counts
    assert "| 2 of 30 | 1 (50.0%) |  | 0 | 1 | 0 |" in counts
    page = (tmp_path / "docs" / "coverage.md").read_text()
    assert "| bert | fill-mask | proven | 9 equal | optimum | 2.0e-06 |  | 1.0e-06 | 5 | 400 |" in page
    assert "- own-code: refused: own-code cannot be converted" in page
    assert str(tmp_path) not in page
    assert "/home/x" not in (tmp_path / "docs" / "coverage.json").read_text()
    assert json.loads((tmp_path / "src" / "gpux" / "convert" / "preferences.json").read_text())["fill-mask"]
    assert json.loads((tmp_path / "src" / "gpux" / "pipelines" / "proven_types.json").read_text())["fill-mask"] == [
        "bert"
    ]


def test_a_verdict_measures_the_compared_outputs() -> None:
    verdict, expected = Verdict(), np.array([[1.0, 20.0], [3.0, 4.0]])
    verdict.compare("near", expected + ALLOWED * 10, expected)
    mask = np.array([True, False])
    verdict.compare("behind the mask", np.where(mask[:, None], expected, 9), expected, mask)
    assert (verdict.wrong, verdict.compared) == ([], 2)
    verdict.compare("far", expected + 0.01, expected)
    verdict.compare("shape", expected[:1], expected)
    verdict.compare("not finite", np.full_like(expected, np.nan), expected)
    assert [said.split(":")[0] for said in verdict.wrong] == ["far", "shape", "not finite"]
