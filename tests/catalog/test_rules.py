"""Overrides and reported facts, validated by type and range."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpux.catalog.record import Facts, Record
from gpux.catalog.rules import OWN, RULES, SETTABLE, checked_overrides, reported
from gpux.errors import UsageError
from gpux.model.info import ModelInfo


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("parameters", "70B", ("parameters", 70_000_000_000)),
        ("params", 7_241_732_096, ("parameters", 7_241_732_096)),
        ("params", 7e9, ("parameters", 7_000_000_000)),
        ("params", "70", ("parameters", 70_000_000_000)),
        ("params", 70, ("parameters", 70_000_000_000)),
        ("params", "7.24", ("parameters", 7_240_000_000)),
        ("params", 0.137, ("parameters", 137_000_000)),
        ("params", "999", ("parameters", 999_000_000_000)),
        ("params", "1000", ("parameters", 1000)),
        ("active_params", "12.9", ("active_parameters", 12_900_000_000)),
        ("context", "128000", ("context_length", 128_000)),
        ("context", "128k", ("context_length", 128_000)),
        ("Context-Length", 4096, ("context_length", 4096)),
        ("licence", " mit ", ("license", "mit")),
        ("languages", "en, fr,en", ("languages", ("en", "fr"))),
        ("base_model", ["a/b"], ("base_models", ("a/b",))),
        ("task", "Text Generation", ("task", "text-generation")),
        ("task", "sentiment-analysis", ("task", "text-classification")),
        ("task", "sentence-similarity", ("task", "sentence-similarity")),
        ("task", "brand-new-task", ("task", "brand-new-task")),
        ("description", "two\nlines", ("description", "two\nlines")),
        ("defaults", {"temperature": 0.7, "stop": ["."]}, ("defaults", {"temperature": 0.7, "stop": ["."]})),
        ("parameters", None, ("parameters", None)),
    ],
)
def test_valid_overrides(field: str, value: Any, kept: tuple[str, Any]) -> None:
    assert checked_overrides({field: value}) == dict([kept])


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        ({"contxt": 1}, "unknown field 'contxt'", "'context'"),
        ({"zzz": 1}, "unknown field 'zzz'", "Known: name, description"),
        ({"downloads": 5}, "downloads is reported by the source", "Fields that can be set"),
        ({"params": 0}, "a number from 1,000", None),
        ({"params": "0"}, "a number from 1,000", None),
        ({"params": "0.5k"}, "a number from 1,000", None),
        ({"params": "seventy"}, "'seventy' is not a number of parameters", "7B"),
        ({"params": True}, "an integer is expected", None),
        ({"params": -1}, "a number from", None),
        ({"params": 1e30}, "a number from", None),
        ({"params": math.nan}, "an integer is expected", None),
        ({"context": 0}, "a number from 1", None),
        ({"context": [1]}, "an integer is expected", None),
        ({"name": ""}, "the text is empty", None),
        ({"name": "a\nb"}, "control characters", None),
        ({"name": "x" * 201}, "at most 200 characters", None),
        ({"description": "a\x1b[31m"}, "control characters", None),
        ({"license": 5}, "text is expected", None),
        ({"languages": 5}, "a list of text is expected", None),
        ({"task": "no/task"}, "a task name such as", None),
        ({"defaults": 5}, "a mapping of names to values", None),
        ({"defaults": {"temperature": -1}}, "temperature must be a number of at least 0", None),
        ({"defaults": {"top_p": 2}}, "top_p must be a number greater than 0 and at most 1", None),
        ({"defaults": {"top_k": 1.5}}, "top_k must be a whole number", None),
        ({"defaults": {"x": math.inf}}, "JSON values are expected", None),
        ({"defaults": {"x": {1, 2}}}, "JSON values are expected", None),
        ({"defaults": {"a b": 1}}, "is not a valid parameter name", None),
        ({"defaults": {"x": "y" * 70_000}}, "at most 65,536 bytes", None),
        ({"params": 5000, "parameters": 5000}, "is set twice", None),
    ],
    ids=str,
)
def test_invalid_overrides_raise_a_usage_error(overrides: dict[str, Any], message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        checked_overrides(overrides)
    assert message in caught.value.message
    assert (hint or "") in (caught.value.hint or "")
    assert caught.value.details["field"]


def test_rules_cover_the_facts() -> None:
    assert set(RULES) == {*OWN, *(entry.name for entry in fields(Facts))}
    names = [name for field, rule in RULES.items() for name in (field, *rule.aliases)]
    assert len(names) == len(set(names))
    assert set(SETTABLE) < set(RULES)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(list(RULES)), JSON)
def test_a_reported_value_is_valid_or_omitted(field: str, value: Any) -> None:
    found = reported(field, value)
    if found is None or found == ():
        return
    assert reported(field, found) == found
    kind = RULES[field].kind
    assert isinstance(found, {"count": int, "flag": bool, "texts": tuple, "defaults": dict}.get(kind, str))
    if kind != "defaults":
        texts = found if isinstance(found, tuple) else (found,)
        assert all("\x1b" not in str(text) for text in texts)
        json.dumps(found, ensure_ascii=False).encode()  # no lone surrogates


@given(st.dictionaries(st.sampled_from(list(RULES)) | st.text(max_size=10), JSON, max_size=3))
def test_overrides_are_accepted_or_raise_a_usage_error(overrides: dict[str, Any]) -> None:
    try:
        found = checked_overrides(overrides)
    except UsageError:
        return
    assert checked_overrides(found) == found
    assert set(found) <= set(SETTABLE)


def test_active_parameters_are_at_most_all_parameters() -> None:
    record = Record("a/b", "hf", "a/b", reported=Facts(parameters=10_000))
    with pytest.raises(UsageError, match="is greater than parameters"):
        record.with_overrides({"active_parameters": 20_000})
    both = record.with_overrides({"active_parameters": 20_000, "parameters": 30_000})
    assert (both.facts.parameters_basis, both.facts.active_parameters) == ("override", 20_000)
    assert both.with_overrides({"active_parameters": None, "parameters": None}).facts == record.facts


def test_defaults_are_merged() -> None:
    record = Record("a/b", "hf", "a/b").with_overrides({"defaults": {"top_k": 5, "seed": 1}})
    assert record.with_overrides({"defaults": {"seed": None, "top_p": 0.5}}).defaults == {"top_k": 5, "top_p": 0.5}
    assert record.with_overrides({"defaults": {"seed": None, "top_k": None}}).defaults == {}
    assert record.with_overrides({"defaults": None}).defaults == {}


def test_info_has_the_facts_that_a_refresh_renews() -> None:
    for name in ("downloads", "likes", "gated", "private", "last_modified"):
        assert name in ModelInfo.__dataclass_fields__
