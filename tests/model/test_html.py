"""Values as tables in a notebook."""

from __future__ import annotations

from gpux import ModelInfo
from gpux.model.html import facts, table
from gpux.model.info import ModelFile


def test_facts_escape_and_leave_out_what_is_empty() -> None:
    html = facts("<b>x</b>", [("name", "a & b"), ("nothing", None), ("empty", "")])
    assert "&lt;b&gt;x&lt;/b&gt;" in html and "a &amp; b" in html
    assert "nothing" not in html and "empty" not in html


def test_a_table_has_a_cell_for_each_value() -> None:
    html = table("Plan", ("name", "reason"), [("optimum", "<reads> it"), ("mobius", "no")])
    assert html.count("<td") == 4 and "&lt;reads&gt; it" in html


def test_model_info_in_a_notebook() -> None:
    info = ModelInfo("hf", "org/name", "org/name", files=(ModelFile("model.onnx", 1_500_000),), parameters=22_713_216)
    html = info._repr_html_()
    assert "org/name" in html and "22,713,216" in html and "1, 1.5 MB" in html
    assert "license" not in html
