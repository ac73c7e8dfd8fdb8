"""Options as they are typed on a command line: the type that a task declares decides how a text is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from gpux.errors import UsageError
from gpux.pipelines.options import OptionSpec, described, fits, json_schema, parse_option
from gpux.pipelines.registry import pipeline_class


def parsed(hint: Any, text: str) -> Any:
    return parse_option("a-task", OptionSpec("name", hint, None, "what it is for"), text)


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (int | None, "3", 3),
        (int | None, "null", None),
        (float, "3", 3),
        (float, "1e-3", 0.001),
        (bool, "true", True),
        (str, "123", "123"),
        (str, "true", "true"),
        (str | None, "a, b", "a, b"),
        (Sequence[str], "a, b", ["a", "b"]),
        (Sequence[str], "a", ["a"]),
        (Sequence[str], '["a, b"]', ["a, b"]),
        (str | Sequence[str], "a,b", "a,b"),
        (Sequence[int], "[1, 2]", [1, 2]),
        (Literal["none", "first"], "first", "first"),
        (bool | Literal["left"], "left", "left"),
        (Mapping[str, Any] | None, '{"a": 1}', {"a": 1}),
        (Any, "[1]", [1]),
        (Any, "words", "words"),
    ],
)
def test_a_text_becomes_a_value_of_the_declared_type(hint: Any, text: str, value: Any) -> None:
    found = parsed(hint, text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("hint", "text", "allowed"),
    [
        (int, "three", "a whole number"),
        (int, "1.5", "a whole number"),
        (int, "true", "a whole number"),
        (float | None, "much", "a number"),
        (bool, "1", "true or false"),
        (Literal["none", "first"], "last", "none or first"),
        (Literal[True, "never"], "1", "true or never"),
        (Sequence[int], "1,2", "a JSON list"),
        (Mapping[str, Any], "[]", "a JSON object"),
    ],
)
def test_a_text_of_another_type_is_refused_with_what_is_allowed(hint: Any, text: str, allowed: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(hint, text)
    assert caught.value.message == f"name of a-task is {text!r}, and must be {allowed}"
    assert caught.value.hint == "name: what it is for."


def test_options_of_generation_are_checked_with_their_ranges() -> None:
    specs = {spec.name: spec for spec in pipeline_class("text-generation").options()}
    for name, text, value in (
        ("num_beams", "4", 4),
        ("stop", '["a", "b"]', ["a", "b"]),
        ("stop", "end", "end"),
        ("eos_token_id", "5", 5),
        ("temperature", "0.5", 0.5),
        ("early_stopping", "never", "never"),
    ):
        assert parse_option("text-generation", specs[name], text) == value
    for name, text in (("num_beams", "0"), ("top_p", "2"), ("seed", "x")):
        with pytest.raises(UsageError, match=f"{name} of text-generation is"):
            parse_option("text-generation", specs[name], text)
    assert described(specs["num_beams"].schema) == "a whole number of at least 1"


def test_an_empty_schema_allows_everything() -> None:
    assert fits(object(), json_schema(object)) and described({}) == "JSON"
