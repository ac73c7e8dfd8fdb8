from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from gpux.errors import UsageError
from gpux.runtime.generation.options import (
    GenerationOptions,
    option_infos,
    option_names,
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", "5"),
        ("max_new_tokens", 2.0),
        ("max_new_tokens", True),
        ("min_new_tokens", -1),
        ("min_length", -1),
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", "hot"),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_p", float("nan")),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("typical_p", 0),
        ("repetition_penalty", 0.0),
        ("presence_penalty", float("nan")),
        ("frequency_penalty", "a"),
        ("no_repeat_ngram_size", -1),
        ("bad_words", [[]]),
        ("bad_words", 5),
        ("bad_words", [5]),
        ("bad_words", [["a"]]),
        ("logit_bias", 5),
        ("logit_bias", [(1, 2.0)]),
        ("logit_bias", {"a": 1.0}),
        ("logit_bias", {-1: 1.0}),
        ("logit_bias", {1 << 63: 1.0}),
        ("logit_bias", {"9" * 30: 1.0}),
        ("logit_bias", {1: "a"}),
        ("logit_bias", {1: float("nan")}),
        ("logit_bias", {1: 1e300}),
        ("suppress_tokens", [-1]),
        ("suppress_tokens", ["a"]),
        ("begin_suppress_tokens", [1.5]),
        ("forced_bos_token_id", -1),
        ("forced_eos_token_id", -1),
        ("eos_token_ids", [None]),
        ("pad_token_id", -1),
        ("stop", ""),
        ("stop", 5),
        ("stop", ["a", 5]),
        ("stop", [""]),
        ("num_return_sequences", 0),
        ("num_beams", 0),
        ("length_penalty", float("inf")),
        ("early_stopping", "always"),
        ("early_stopping", 1),
        ("do_sample", "yes"),
        ("renormalize_logits", 1),
        ("prompt_lookup_tokens", -1),
        ("seed", -1),
        ("seed", 1.5),
        ("logprobs", -1),
    ],
)
def test_error_names_the_invalid_value(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        GenerationOptions().with_options(**{name: value})
    assert caught.value.hint


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"num_beams": 2, "do_sample": True}, ("num_beams", "do_sample")),
        ({"num_beams": 2, "temperature": 0.5}, ("num_beams", "do_sample")),
        ({"num_return_sequences": 2}, ("num_return_sequences", "do_sample")),
        ({"num_return_sequences": 3, "num_beams": 2}, ("num_return_sequences", "num_beams")),
        ({"min_new_tokens": 5, "max_new_tokens": 4}, ("min_new_tokens", "max_new_tokens")),
        ({"do_sample": False, "temperature": 0.5}, ("temperature", "do_sample")),
        ({"do_sample": False, "top_p": 0.5, "top_k": 4}, ("top_k", "top_p", "do_sample")),
        ({"do_sample": True, "temperature": 0}, ("temperature", "do_sample")),
        ({"prompt_lookup_tokens": 3, "num_beams": 2}, ("prompt_lookup_tokens", "num_beams")),
        (
            {"prompt_lookup_tokens": 3, "num_return_sequences": 2, "do_sample": True},
            ("prompt_lookup_tokens", "num_return_sequences"),
        ),
        ({"num_beams": 2, "logprobs": 0}, ("num_beams", "logprobs")),
    ],
)
def test_contradictions_are_named(options: dict[str, Any], names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        GenerationOptions().with_options(**options)
    assert all(name in caught.value.message for name in names)
    assert caught.value.hint


def test_error_for_an_unknown_option_lists_the_options() -> None:
    with pytest.raises(UsageError, match="no generation option max_lenght, tempature") as caught:
        GenerationOptions().with_options(tempature=1.0, max_lenght=3)
    assert "temperature" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"temperature": 0.5}, {"temperature": 0.5, "do_sample": True}),
        ({"temperature": 1.0}, {"do_sample": True}),
        ({"temperature": 0}, {"temperature": 1.0, "do_sample": False}),
        ({"temperature": 0, "top_p": 0.5}, {"temperature": 1.0, "top_p": 0.5, "do_sample": False}),
        ({"do_sample": False, "top_p": 1.0}, {"do_sample": False}),
        ({"stop": "a"}, {"stop": ("a",)}),
        ({"stop_strings": ["a", "b"]}, {"stop_strings": ("a", "b")}),
        ({"max_length": 9}, {"max_length": 9, "max_new_tokens": 9}),
        ({"max_length": 9, "max_new_tokens": 5}, {"max_new_tokens": 5}),
        ({"eos_token_id": 3}, {"eos_token_ids": (3,)}),
        ({"eos_token_id": [3, 4]}, {"eos_token_ids": (3, 4)}),
        ({"forced_eos_token_id": 3}, {"forced_eos_token_id": (3,)}),
        ({"bad_words_ids": [[1], [2, 3]]}, {"bad_words": ((1,), (2, 3))}),
        ({"max_tokens": 9}, {"max_new_tokens": 9}),
        ({"early_stopping": "never"}, {"early_stopping": "never"}),
        ({"seed": None, "top_k": None}, {}),
    ],
)
def test_options_as_users_give_them(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert GenerationOptions().with_options(**given) == GenerationOptions(**expected)


@pytest.mark.parametrize(
    ("default", "given", "expected"),
    [
        ({"num_beams": 4}, {"temperature": 0.5}, {"num_beams": 1, "do_sample": True}),
        ({"num_beams": 4}, {"do_sample": True}, {"num_beams": 1, "do_sample": True}),
        ({"num_beams": 4}, {"do_sample": False}, {"num_beams": 4, "do_sample": False}),
        ({"do_sample": True}, {"num_beams": 3}, {"num_beams": 3, "do_sample": False}),
        ({"do_sample": True}, {"num_beams": 1}, {"num_beams": 1, "do_sample": True}),
        ({"do_sample": True, "temperature": 0.7}, {"do_sample": False}, {"do_sample": False}),
        ({"min_new_tokens": 56}, {"max_new_tokens": 20}, {"min_new_tokens": 20}),
    ],
)
def test_given_options_win_over_defaults(
    default: dict[str, Any], given: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = GenerationOptions(**default).with_options(**given)
    assert {name: getattr(found, name) for name in expected} == expected


def test_options_pickle_and_are_json_able() -> None:
    options = GenerationOptions(bad_words=((1, 2),), stop=("a",), early_stopping="never", seed=3)
    assert pickle.loads(pickle.dumps(options)) == options
    assert json.loads(json.dumps(options.to_dict()))["bad_words"] == [[1, 2]]


def test_every_option_is_listed_with_its_default_help_and_schema() -> None:
    listed = option_infos()
    assert {name: info.default for name, info in listed.items()} == vars(GenerationOptions())
    assert all(info.help and not info.help.endswith(".") for info in listed.values())
    assert listed["top_p"].schema == {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    assert listed["early_stopping"].schema == {"enum": [True, False, "never"]}
    assert listed["stop"].schema["items"] == {"type": "string", "minLength": 1}
    assert json.loads(json.dumps(listed["max_new_tokens"].to_dict()))["aliases"] == ["max_tokens"]


def test_a_schema_allows_what_a_call_allows() -> None:
    assert option_infos()["temperature"].schema == {"type": "number", "minimum": 0}
    assert not GenerationOptions().with_options(temperature=0).do_sample


def test_no_name_stands_for_two_options() -> None:
    names = [name for info in option_infos().values() for name in (info.name, *info.aliases)]
    assert len(names) == len(set(names)) == len(option_names())
