"""Answers in a given form: whatever the scores are, the text conforms; and named errors for forms that cannot be."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from gpux.errors import RunError, UnsupportedError, UsageError
from gpux.pipelines.generation import structured
from gpux.pipelines.generation.structured import answer_format, json_constraint
from gpux.runtime.generation.choose.row import Constraint

ENDS = (0, 2)  #: both end an answer; id 1 is a special token that does not
PADDING = 7  #: rows of scores beyond the vocabulary
TEXT = ['{"name": "Ada", "age": 36, "tags": ["x", "y"]}', "true false null 1.5e10 größer 東京 ab cd 2024-01-31"] * 20
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "mood": {"enum": ["good", "bad", None]},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-c]{1,3}$"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "mood", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def library() -> None:
    pytest.importorskip("llguidance", reason="llguidance is not installed (extra `structured`)")


@pytest.fixture(scope="module", params=["byte level", "byte fallback"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """As GPT-2 and as Llama 2 have it."""
    special = ["<eos>", "<role>", "<end>"]
    if request.param == "byte level":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        special += [f"<0x{byte:02X}>" for byte in range(256)]
        made = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True))
        made.normalizer = normalizers.Replace(" ", "▁")
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        alphabet = []
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(TEXT, trainer)
    if request.param == "byte fallback":  # bytes are ordinary pieces of the model, not special tokens
        saved = json.loads(made.to_str())
        saved["added_tokens"] = saved["added_tokens"][:3]
        made = Tokenizer.from_str(json.dumps(saved))
    return made


def draw(constraint: Constraint, size: int, seed: int, limit: int = 400) -> list[int]:
    """Tokens by random scores, until the answer ends."""
    random, ids = np.random.default_rng(seed), []
    for _ in range(limit):
        if constraint.finished:
            return ids
        scores: NDArray[np.float32] = random.normal(size=size + PADDING).astype(np.float32)
        scores[list(ENDS)] += 3  # an answer that may end does so soon
        masked = constraint.mask(scores)
        assert np.isneginf(masked[size:]).all()
        token = int(masked.argmax())
        if token in ENDS:
            return ids
        ids.append(token)
        constraint.accept(token)
    raise AssertionError(f"no end after {limit} tokens")


@pytest.mark.parametrize("seed", range(12))
def test_random_scores_follow_the_schema(tokenizer: Tokenizer, seed: int) -> None:
    wanted: Any = PERSON if seed % 2 else {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    ids = draw(json_constraint(tokenizer, wanted, ENDS), tokenizer.get_vocab_size(), seed)
    found = json.loads(tokenizer.decode(ids, skip_special_tokens=False))
    assert list(found) == ["name", "age", "mood", "tags"]
    assert isinstance(found["name"], str) and 1 <= len(found["name"]) <= 8
    assert type(found["age"]) is int and 0 <= found["age"] <= 130
    assert found["mood"] in ("good", "bad", None)
    assert 1 <= len(found["tags"]) <= 3 and all(re.fullmatch("[a-c]{1,3}", tag) for tag in found["tags"])


def test_any_object(tokenizer: Tokenizer) -> None:
    constraint, found = json_constraint(tokenizer, {"type": "json_object"}, ENDS), []
    for text in ('{"a', '": [1, {"ü": nu', "ll}], "):
        for token in tokenizer.encode(text, add_special_tokens=False).ids:
            constraint.mask(np.zeros(tokenizer.get_vocab_size(), np.float32))
            constraint.accept(token)
            found.append(token)
    for text in ('"b', '": "', '"}'):
        for token in tokenizer.encode(text, add_special_tokens=False).ids:
            constraint.accept(token)
            found.append(token)
    assert constraint.finished
    assert json.loads(tokenizer.decode(found)) == {"a": [1, {"ü": None}], "b": ""}


@pytest.mark.parametrize("seed", range(6))
def test_a_pattern(tokenizer: Tokenizer, seed: int) -> None:
    wanted = {"type": "regex", "pattern": r"[1-2][0-9]{3}-(0[1-9]|1[0-2])( (ab|größer)){0,2}"}
    text = tokenizer.decode(draw(json_constraint(tokenizer, wanted, ENDS), tokenizer.get_vocab_size(), seed))
    assert re.fullmatch(wanted["pattern"], text)


def test_where_an_answer_may_end(tokenizer: Tokenizer) -> None:
    size = tokenizer.get_vocab_size()
    constraint = json_constraint(tokenizer, {"type": "regex", "pattern": "ab(ab)?"}, ENDS)

    def may_come() -> set[int]:
        return set(np.flatnonzero(np.isfinite(constraint.mask(np.zeros(size + PADDING, np.float32)))).tolist())

    assert not constraint.finished and not may_come() & {0, 1, 2}
    for token in tokenizer.encode("ab", add_special_tokens=False).ids:
        assert token in may_come()
        constraint.accept(token)
    assert not constraint.finished and {0, 2} < may_come()  # ends, or goes on
    for token in tokenizer.encode("ab", add_special_tokens=False).ids:
        constraint.accept(token)
    assert constraint.finished and may_come() == {0, 2}


def test_scores_that_end_before_the_vocabulary(tokenizer: Tokenizer) -> None:
    constraint = json_constraint(tokenizer, {"type": "integer"}, ENDS)
    assert constraint.mask(np.zeros(tokenizer.get_vocab_size() - 5, np.float32)).size == tokenizer.get_vocab_size() - 5


@pytest.mark.parametrize("indent", [None, 2, 4])
def test_json_as_people_write_it(tokenizer: Tokenizer, indent: int | None) -> None:
    person = {"name": "Ada", "age": 36, "mood": None, "tags": ["a", "bc"]}
    constraint = json_constraint(tokenizer, PERSON, ENDS)
    for token in tokenizer.encode(json.dumps(person, indent=indent), add_special_tokens=False).ids:
        constraint.accept(token)
    assert constraint.finished


def test_whitespace_is_limited(tokenizer: Tokenizer) -> None:
    constraint = json_constraint(tokenizer, PERSON, ENDS)
    for token in tokenizer.encode("{\n", add_special_tokens=False).ids:
        constraint.accept(token)
    space = tokenizer.encode(" ", add_special_tokens=False).ids[-1]
    for _ in range(16):
        constraint.accept(space)
    with pytest.raises(RunError, match="cannot continue in the requested format"):
        constraint.accept(space)


def test_answers_of_one_format_are_independent(tokenizer: Tokenizer) -> None:
    make = answer_format(tokenizer, {"enum": [12, 34]}, ENDS)
    assert make is not None
    first, second = make(), make()
    for token in tokenizer.encode("12", add_special_tokens=False).ids:
        first.accept(token)
    assert (first.finished, second.finished, make().finished) == (True, False, False)


def test_the_vocabulary_is_read_once(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    import llguidance

    read: list[Any] = []
    original = llguidance.LLTokenizer
    monkeypatch.setattr(llguidance, "LLTokenizer", lambda *args, **named: read.append(1) or original(*args, **named))
    fresh = Tokenizer.from_str(tokenizer.to_str())
    for ends in (ENDS, ENDS, (0,), ENDS):
        json_constraint(fresh, PERSON, ends)
    assert len(read) == 2


def test_end_tokens_that_the_tokenizer_does_not_have(tokenizer: Tokenizer) -> None:
    ids = draw(json_constraint(tokenizer, {"type": "boolean"}, (*ENDS, 99_999)), tokenizer.get_vocab_size(), 1)
    assert tokenizer.decode(ids) in ("true", "false")


def test_a_class_with_a_schema(tokenizer: Tokenizer) -> None:
    class Verdict:
        @classmethod
        def model_json_schema(cls) -> dict[str, Any]:
            return {"enum": [True]}

    assert tokenizer.decode(draw(json_constraint(tokenizer, Verdict, ENDS), tokenizer.get_vocab_size(), 3)) == "true"


def test_format_text_constrains_nothing(tokenizer: Tokenizer) -> None:
    assert answer_format(tokenizer, {"type": "text"}) is None
    with pytest.raises(UsageError, match="does not constrain an answer"):
        json_constraint(tokenizer, {"type": "text"})


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("json", "response_format is str, and must be a dict"),
        ({"type": "json_schema"}, "has no schema"),
        ({"type": "json_schema", "json_schema": {"schema": "x"}}, "has no schema"),
        ({"type": "regex"}, "has no pattern"),
        ({"type": "regex", "pattern": "("}, "the pattern cannot be used: .*unclosed group"),
        ({"type": "regex", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "nonsense"}, "the JSON schema cannot be used: Invalid type: nonsense"),
        ({"$ref": "#/nowhere"}, "'/nowhere' does not exist"),
        ({"type": "array", "uniqueItems": True}, 'Unimplemented keys: ."uniqueItems".'),
        ({"not": {"type": "string"}, "x-guidance": {"lenient": True}}, 'Unimplemented keys: ."not".'),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "Unsatisfiable"),
        ({"enum": [object()]}, "not JSON serializable"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_invalid_formats_are_rejected(tokenizer: Tokenizer, wanted: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        answer_format(tokenizer, wanted, ENDS)
    assert caught.value.hint and "\n" not in str(caught.value)


def test_forbidden_token_raises(tokenizer: Tokenizer) -> None:
    constraint = json_constraint(tokenizer, PERSON, ENDS)
    with pytest.raises(RunError, match="cannot continue in the requested format"):
        constraint.accept(tokenizer.encode("x", add_special_tokens=False).ids[0])
    with pytest.raises(RunError):
        constraint.mask(np.zeros(tokenizer.get_vocab_size(), np.float32))


def test_a_vocabulary_without_the_characters() -> None:
    """T5's has no braces, for one."""
    few = Tokenizer(models.BPE(vocab={"<eos>": 0, "a": 1, "b": 2}, merges=[]))
    few.decoder = decoders.ByteLevel()
    constraint = json_constraint(few, PERSON, (0,))
    with pytest.raises(RunError, match="cannot continue in the requested format"):
        constraint.mask(np.zeros(3, np.float32))


def test_unsupported_tokenizer() -> None:
    odd = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    odd.decoder = decoders.Metaspace()
    with pytest.raises(UnsupportedError, match="this model's tokenizer: can't determine decoder type") as caught:
        json_constraint(odd, PERSON)
    assert caught.value.hint


def test_without_the_library(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(UnsupportedError, match="which is not installed") as caught:
        structured.answer_format(tokenizer, PERSON)
    assert "pip install 'gpux[structured]'" in str(caught.value.hint)
