"""The committed small model: its files agree with each other, with its card and with its log."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment
from safetensors import safe_open
from scripts.small_held_out import WINDOW, held_out_windows
from scripts.small_stories import story
from scripts.small_text import read_text
from tokenizers import Tokenizer

from gpux.inspect.architecture import count_parameters

FOLDER = Path(__file__).parent / "small"
WEIGHTS = FOLDER / "model.safetensors"
MOST = 15_000_000  # bytes of the folder
ODD = "naïve café — 日本語 🙂\n\ttabs  and   spaces\r\n<|im_start|>user\nHi<|im_end|>"


def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text("utf-8"))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


def ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def test_it_is_small_enough_to_be_committed() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= MOST


def test_the_weights_are_those_of_the_log() -> None:
    logged = re.findall(r"sha256 of model\.safetensors ([0-9a-f]{64})", (FOLDER / "training.log").read_text("utf-8"))
    assert logged == [hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()]


def test_parameters_are_those_of_the_config_and_the_card() -> None:
    config = read("config.json")
    assert config["num_key_value_heads"] < config["num_attention_heads"]
    with safe_open(WEIGHTS, "np") as weights:
        shapes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118, no mapping
        kinds = {weights.get_slice(name).get_dtype() for name in shapes}
    held = sum(math.prod(shape) for shape in shapes.values())
    assert kinds == {"F32"}
    assert "lm_head.weight" not in shapes and config["tie_word_embeddings"] is True
    assert held == count_parameters(config).total
    assert 2_000_000 <= held <= 6_000_000
    assert f"{held:,} parameters" in (FOLDER / "README.md").read_text("utf-8")


def test_the_card_names_the_licenses() -> None:
    _, head, body = (FOLDER / "README.md").read_text("utf-8").split("---\n", 2)
    card = yaml.safe_load(head)
    assert card["license"] == "other"
    licence = (FOLDER / card["license_link"]).read_text("utf-8")
    assert "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2" in licence
    assert "PSF licence" in body and "Apache licence 2.0" in body


def test_configs_agree_with_the_tokenizer(tokenizer: Tokenizer) -> None:
    config, generation, own = read("config.json"), read("generation_config.json"), read("tokenizer_config.json")
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    marks = [tokenizer.token_to_id(mark) for mark in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    assert marks == [0, 1, 2]
    assert (own["pad_token"], own["eos_token"]) == ("<|endoftext|>", "<|im_end|>")
    assert (config["pad_token_id"], config["eos_token_id"]) == (0, 2)
    assert (generation["pad_token_id"], sorted(generation["eos_token_id"])) == (0, [0, 2])
    assert own["model_max_length"] == config["max_position_embeddings"]


@pytest.mark.parametrize("text", [ODD, "", " ", "Once upon a time", story(Random(0))])
def test_the_tokenizer_decodes_to_the_same_text(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(ids(tokenizer, text), skip_special_tokens=False) == text


def test_the_tokenizer_learned_from_the_text(tokenizer: Tokenizer) -> None:
    held = "".join(document.text for document in read_text() if document.held_out)
    assert len(held) / len(ids(tokenizer, held)) > 3  # characters of an entry; bytes alone would give 1


def test_the_template_renders_chatml(tokenizer: Tokenizer) -> None:
    template = ImmutableSandboxedEnvironment().from_string(read("tokenizer_config.json")["chat_template"])
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi!"}]
    text = template.render(messages=messages, add_generation_prompt=True)
    assert text == "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi!<|im_end|>\n<|im_start|>assistant\n"
    assert [ids(tokenizer, text).count(mark) for mark in (1, 2)] == [3, 2]


def test_expected_continuations_are_complete(tokenizer: Tokenizer) -> None:
    expected = read("expected.json")
    assert {told["chat"] for told in expected["greedy"]} == {True, False}
    for told in expected["greedy"]:
        new = told["new_ids"]
        assert tokenizer.decode(new, skip_special_tokens=True) == told["text"]
        assert len(new) == expected["max_new_tokens"] or new[-1] in (0, 2)
        assert told["prompt"] in tokenizer.decode(told["prompt_ids"])


def test_nothing_held_out_is_trained_on() -> None:
    documents = read_text()
    trained = {line for document in documents if not document.held_out for line in document.text.split("\n\n")}
    held = {line for document in documents if document.held_out for line in document.text.split("\n\n")}
    assert held and not held & trained


def test_perplexity_has_enough_text(tokenizer: Tokenizer) -> None:
    windows = held_out_windows(lambda text: ids(tokenizer, text))
    assert set(windows) == set(read("expected.json")["perplexity"]) == {"python", "stories"}
    for found in windows.values():
        assert sum(map(len, found)) > 5_000
        assert all(2 <= len(window) <= WINDOW for window in found)


def test_stories_are_the_same_everywhere() -> None:
    random = Random(6)
    told = "\n".join(story(random) for _ in range(200))
    assert (
        hashlib.sha256(told.encode()).hexdigest() == "3c4d8638034c90357a17aebedddc557bd0ddb3e0ed67fca7663b9d126e04adb8"
    )
