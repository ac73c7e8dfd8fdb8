"""The table of precisions, and the order, names and limits that other rooms derive from the table."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from gpux.errors import UsageError
from gpux.inspect.architecture import ParameterCount
from gpux.inspect.fit import weight_bytes
from gpux.inspect.formats.gguf_files import canonical_label
from gpux.inspect.formats.graphs import onnx_variants
from gpux.model.precisions import (
    AUTO,
    PRECISIONS,
    QUANTIZED,
    TABLE,
    Precision,
    canonical_precision,
    find_precision,
    precision_in,
    preference,
)


def test_each_spelling_names_one_precision() -> None:
    spellings = [spelling for row in TABLE for spelling in row.spellings]
    assert len(spellings) == len(set(spellings))
    assert all(spelling == spelling.lower() for spelling in spellings)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_names_aliases_and_suffixes_lead_to_their_row(row: Precision) -> None:
    for spelling in filter(None, row.spellings):
        assert canonical_precision(spelling.upper()) == row.name
        assert find_precision(spelling) is row
    for suffix in row.suffixes:
        [graph] = onnx_variants([f"onnx/model{'_' * bool(suffix)}{suffix}.onnx"])
        assert (graph.part, graph.precision) == ("model", row.name)


@pytest.mark.parametrize(
    ("text", "name"),
    [("float16", "fp16"), ("half", "fp16"), ("q8", "int8"), ("quantized", "int8"), ("Q4", "int4"), ("quint8", "uint8")],
)
def test_common_spellings(text: str, name: str) -> None:
    assert canonical_precision(text) == name


def test_an_unknown_precision_is_a_usage_error_that_lists_all() -> None:
    assert canonical_precision("INT3") == "int3"
    with pytest.raises(UsageError, match="unknown precision 'int3'") as caught:
        find_precision("int3")
    assert all(name in str(caught.value.hint) for name in PRECISIONS)


def test_the_order_is_that_of_bits() -> None:
    bits = [row.bits for row in TABLE]
    assert bits == sorted(bits, reverse=True)
    assert sorted(["q4", "int4", "fp16", "fp32", "int8"], key=preference) == ["fp32", "fp16", "int8", "int4", "q4"]


def test_the_last_word_that_names_a_precision_counts() -> None:
    assert precision_in(["fp16", "model", "q8", "onnx"]) == "int8"
    assert precision_in(["model"]) is None


def test_gpux_quantizes_to_three_precisions_and_each_allows_more_loss() -> None:
    assert QUANTIZED == ("fp16", "int8", "int4")
    limits = [row.loss_limits or {} for row in TABLE if row.can_quantize]
    for closer, further in itertools.pairwise(limits):
        assert closer.keys() == further.keys()
        for measure, limit in closer.items():
            assert further[measure].holds(limit.value) and not limit.holds(further[measure].value), measure


def test_floating_point_precisions_alone_can_be_proven_and_a_replay_is_never_stricter() -> None:
    assert [row.name for row in TABLE if row.tolerance is not None] == ["fp32", "fp16", "bf16"]
    assert all(row.replay_tolerance >= (row.tolerance or 0) for row in TABLE)


def test_gguf_labels_that_stand_for_a_precision() -> None:
    assert [canonical_label(name) for name in ("fp32", "FP16", "bf16", "int8", "q8", "int4", "Q4", "q5_k_m")] == [
        "F32",
        "F16",
        "BF16",
        "Q8_0",
        "Q8_0",
        "Q4_K_M",
        "Q4_K_M",
        "Q5_K_M",
    ]


def test_memory_is_estimated_for_every_precision() -> None:
    parameters = ParameterCount(1000, 1000, 1000, "config")
    sizes = [weight_bytes(parameters, name) for name in PRECISIONS]
    assert sizes == sorted(sizes, reverse=True, key=lambda size: size or 0)


def test_the_page_of_references_lists_every_spelling() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "model-references.md").read_text(encoding="utf-8")
    table = page.partition("## Precision")[2].partition("gpux quantizes")[0]
    assert {spelling for row in TABLE for spelling in row.spellings if spelling} | {AUTO} == set(
        re.findall(r"`(\w+)`", table)
    )
