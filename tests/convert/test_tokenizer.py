"""A tokenizer.json is written for a slow tokenizer if it is equal to it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from tokenizers import Tokenizer

from gpux.convert.answer_case import read_answers
from tests.convert.tokenizer_trial import PAIR, TEXTS

pytestmark = pytest.mark.toolchain

EQUAL = [
    "albert", "bart", "bert", "bert-cased", "blenderbot", "byt5", "camembert", "esm", "gpt2", "llama", "llama-legacy",
    "m2m_100", "marian", "mbart", "mt5", "pegasus", "plbart", "prophetnet", "qwen2", "roberta", "siglip",
    "speech_to_text", "speecht5", "t5", "vits", "wav2vec2", "wav2vec2-lower", "whisper", "xlm-roberta", "xlnet",
]  # fmt: skip
#: Texts in the warnings for tokenizers that differ on unusual texts.
WARNED = {"llama": "' leading'", "siglip": "</s>"}


@dataclass(frozen=True)
class Trial:
    folder: Path
    answers: dict[str, Any]

    def open(self, name: str, file: str = "tokenizer.json") -> Tokenizer:
        return Tokenizer.from_file(str(self.folder / name / file))


@pytest.fixture(scope="module")
def trial(warm_python: Path, shared_folder: Callable[[str], Path]) -> Trial:
    folder = shared_folder("tokenizers")
    with FileLock(folder / "lock"):
        if not (folder / "done").exists():
            write(folder, warm_python)
            (folder / "done").touch()
    return Trial(folder / "written", json.loads((folder / "written" / "answers.json").read_text()))


def write(folder: Path, python: Path) -> None:
    here = Path(__file__).parent
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    for command in (
        [here / "tokenizer_folders.py", folder / "sources"],
        [here / "tokenizer_trial.py", here.parents[1] / "src", folder / "sources", folder / "written"],
    ):
        done = subprocess.run([python, "-I", *command], capture_output=True, text=True, env=offline)
        assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", EQUAL)
def test_the_ids_equal_those_of_the_slow_tokenizer(trial: Trial, name: str) -> None:
    answer, tokenizer = trial.answers[name], trial.open(name)
    assert [tokenizer.encode(text).ids for text in TEXTS] == answer["ids"]
    if name != "blenderbot":  # drops the second text
        assert tokenizer.encode(*PAIR).ids == answer["pair"]


@pytest.mark.parametrize("name", EQUAL)
def test_the_reference_answers_are_those_of_the_written_tokenizer(trial: Trial, name: str) -> None:
    found, tokenizer = read_answers(trial.folder / name), trial.open(name)
    assert found is not None
    assert len(found.cases) > 20
    assert found.failures.keys() <= {"further tokens"}, "texts on which it is known to differ"
    for case in found.cases:
        if not case.options:
            texts = [case.inputs] if isinstance(case.inputs, str) else case.inputs
            assert tokenizer.encode(*texts).ids == case.expected["ids"], case.name


@pytest.mark.parametrize("name", sorted({*EQUAL} - {"vits"}))
def test_the_decoded_texts_are_equal(trial: Trial, name: str) -> None:
    answer, tokenizer = trial.answers[name], trial.open(name)
    found = [tokenizer.decode(ids, skip_special_tokens=not answer["ctc"]) for ids in answer["ids"]]
    assert [text.replace(" ", "") for text in found] == [text.replace(" ", "") for text in answer["texts"]]


def test_warnings_are_about_unusual_texts_only(trial: Trial) -> None:
    told = {name: trial.answers[name]["warnings"] for name in EQUAL if trial.answers[name]["warnings"]}
    assert set(told) == set(WARNED)
    for name, sample in WARNED.items():
        assert "differs from the original on unusual texts" in told[name][0]
        assert sample in told[name][0]


def test_ctc_outputs_are_merged(trial: Trial) -> None:
    """Repeated letters are merged, unless a blank is between them."""
    tokenizer = trial.open("wav2vec2")
    blank, letters = tokenizer.token_to_id("<pad>"), {c: tokenizer.token_to_id(c) for c in "HELO|"}
    ids = [blank, *(letters[c] for c in "HHELL"), blank, *(letters[c] for c in "LO||HO"), blank]
    assert tokenizer.decode(ids, skip_special_tokens=False) == "HELLO HO"


def test_a_translation_model_encodes_one_language_and_decodes_another(trial: Trial) -> None:
    assert trial.answers["marian"]["files"] == ["tokenizer.json"]
    assert trial.answers["marian"]["warnings"] == []
    tokenizer = trial.open("marian")
    coded = tokenizer.encode(">>deu<< hello")
    assert coded.ids[0] == tokenizer.token_to_id(">>deu<<")
    assert coded.ids[1:] == tokenizer.encode("hello").ids


def test_separate_vocabularies_have_two_files(trial: Trial) -> None:
    assert trial.answers["marian-separate"]["files"] == ["tokenizer.json", "tokenizer_target.json"]
    target = trial.open("marian-separate", "tokenizer_target.json")
    assert target.decode(target.encode("hello world").ids) == "hello world"


def test_a_tiktoken_file(trial: Trial) -> None:
    assert trial.answers["tiktoken"]["files"] == ["tokenizer.json"]
    tokenizer = trial.open("tiktoken")
    encoding = tokenizer.encode("<|begin_of_text|>hello")
    assert encoding.tokens[0] == "<|begin_of_text|>"
    assert tokenizer.decode(encoding.ids) == "hello"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("holes", "tokenizer differs from the original"),
        ("tiktoken-gap", "do not follow"),
        ("vits-uroman", "another program"),
    ],
)
def test_an_unequal_tokenizer_is_not_written(trial: Trial, name: str, why: str) -> None:
    answer = trial.answers[name]
    assert answer["files"] == []
    assert "text cannot be tokenized" in answer["warnings"][0]
    assert why in answer["warnings"][0]


def test_ids_with_gaps_are_kept(trial: Trial) -> None:
    tokenizer = trial.open("gap")
    assert tokenizer.token_to_id("<|user|>") == 900
    assert tokenizer.decode([850]) == ""


@pytest.mark.parametrize(
    ("name", "file"), [("damaged", "spiece.model"), ("empty", "spiece.model"), ("no-json", "vocab.json")]
)
def test_damaged_files_are_named(trial: Trial, name: str, file: str) -> None:
    assert trial.answers[name]["refused"] == "corrupt_file"
    assert file in trial.answers[name]["message"]


def test_nothing_to_do(trial: Trial) -> None:
    assert trial.answers["none"] == {"files": [], "warnings": []}


def test_a_tokenizer_json_that_transformers_cannot_open_stays_as_it_is(trial: Trial) -> None:
    answer = trial.answers["has-one"]
    assert answer["files"] == []
    (warning,) = answer["warnings"]
    assert warning.startswith("transformers cannot open the tokenizer, so its ids are not proven: ")
