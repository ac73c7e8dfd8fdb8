"""The tokenizer that gpux builds of a repository's files is AutoTokenizer's, without transformers."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tokenizers import pre_tokenizers

from gpux.convert.host.pip import interpreter
from gpux.errors import UnsupportedError
from gpux.pipelines.chat.template import ChatTemplate
from gpux.pipelines.text.effective import EffectiveTokenizer, TokenizerFiles, effective_tokenizer, tokenizer_class
from gpux.pipelines.text.tokenizer_classes import CLASSES, LATER, NAMES, facts
from tests.pipelines.tokenizer_bases import BASES
from tests.pipelines.tokenizer_configs import CONFIGS, PAIR, SPECIALS, Config

GOLDENS = json.loads((Path(__file__).parent / "tokenizer_goldens.json").read_text(encoding="utf-8"))
#: transformers has no answer, because it converts a sentencepiece model that is not there; gpux changes tokenizer.json.
WITHOUT_MODEL = {"llama-prefix-false"}
#: A pair of texts of this class is a program with a gap, which no pipeline of gpux takes.
NO_PAIRS = {"CodeLlamaTokenizerFast"}


def open_folder(folder: Path) -> EffectiveTokenizer:
    files = TokenizerFiles.find([folder])
    assert files is not None
    return effective_tokenizer(files, model="org/name")


def answers(found: EffectiveTokenizer, config: Config) -> dict[str, Any]:
    tokenizer = found.tokenizer
    pair = tokenizer.encode(*PAIR)
    named = {name: found.special_tokens.get(name) for name in SPECIALS}
    answer = {
        "class": found.class_name,
        "ids": [tokenizer.encode(text).ids for text in config.texts()],
        "plain": tokenizer.encode("hello world . don't", add_special_tokens=False).ids,
        "pair": {"ids": pair.ids, "type_ids": pair.type_ids},
        "limit": found.limit,
        "padding_side": found.padding_side,
        "truncation_side": found.truncation_side,
        "specials": {name: None if token is None else tokenizer.token_to_id(token) for name, token in named.items()},
    }
    if found.class_name in NO_PAIRS:
        del answer["pair"]
    return answer


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_ids_are_those_of_auto_tokenizer(tmp_path: Path, config: Config) -> None:
    config.write(tmp_path)
    golden = GOLDENS[config.name]
    if config.name in WITHOUT_MODEL:
        assert "model_file" in golden["error"]
        open_folder(tmp_path)
    elif "error" in golden:
        with pytest.raises(UnsupportedError, match="cannot be built"):
            open_folder(tmp_path)
    else:
        found = answers(open_folder(tmp_path), config)
        assert found == {key: golden[key] for key in found}


def test_the_class_is_chosen_as_auto_tokenizer_does() -> None:
    kinds = {
        "BertTokenizerFast": ({"tokenizer_class": "BertTokenizer"}, {"model_type": "llama"}),
        "LlamaTokenizerFast": ({"tokenizer_class": "LlamaTokenizerFast"}, {}),
        "GPT2TokenizerFast": ({}, {"tokenizer_class": "GPT2Tokenizer", "model_type": "opt"}),
        "XLMRobertaTokenizerFast": ({}, {"model_type": "xlm-roberta"}),
        "T5TokenizerFast": ({"tokenizer_class": None}, {"model_type": "t5"}),
        "RobertaTokenizerFast": (
            {},
            {"model_type": "encoder-decoder", "encoder": {"model_type": "roberta"}, "decoder": {}},
        ),
        "PreTrainedTokenizerFast": ({}, {"model_type": "unheard-of"}),
        "OwnTokenizer": ({"tokenizer_class": "OwnTokenizer"}, {"model_type": "bert"}),
    }
    assert {name: tokenizer_class(*files)[0] for name, files in kinds.items()} == {name: name for name in kinds}
    assert tokenizer_class(*kinds["OwnTokenizer"])[1] is None


def test_every_class_of_a_model_type_has_rules_or_is_python_only() -> None:
    known = {*CLASSES, *(f"{name}Fast" for name in facts()["only_python"])}
    chosen = {name if name.endswith("Fast") else f"{name}Fast" for name in facts()["model_types"].values()}
    assert chosen <= known


def test_a_known_tokenizer_does_not_change_when_it_is_opened_again(tmp_path: Path) -> None:
    """The rules may be applied to a tokenizer.json that has been written with them."""
    for config in CONFIGS:
        if "error" in GOLDENS[config.name]:
            continue
        folder = tmp_path / config.name
        config.write(folder)
        first = open_folder(folder)
        first.tokenizer.save(str(folder / "tokenizer.json"))
        assert answers(open_folder(folder), config) == answers(first, config), config.name


@pytest.mark.parametrize(
    ("settings", "first"),
    [({}, "Ġhello"), ({"add_prefix_space": True}, "Ġhello"), ({"add_prefix_space": False}, "hello")],
)
def test_an_unknown_class_keeps_the_prefix_space_of_its_file(
    tmp_path: Path, settings: dict[str, Any], first: str
) -> None:
    tokenizer = BASES["gpt2"].build()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LukeTokenizer", **settings}))
    assert open_folder(tmp_path).tokenizer.encode("hello world").tokens[0] == first


def test_chat_templates_have_the_special_tokens_of_the_tokenizer(tmp_path: Path) -> None:
    """The class's defaults too, for a name that the configuration does not have; null removes one."""
    for config in CONFIGS:
        folder, golden = tmp_path / config.name, GOLDENS[config.name]
        if "error" in golden:
            continue
        config.write(folder)
        found, tokenizer = ChatTemplate.load(folder).special_tokens, open_folder(folder).tokenizer
        ids = {name: tokenizer.token_to_id(found[name]) if name in found else None for name in SPECIALS}
        assert ids == golden["specials"], config.name


@pytest.mark.parametrize(
    ("settings", "text", "ids"),
    [
        ({}, "hello", ["<s>", "▁hello"]),
        ({"add_eos_token": True, "eos_token": "</s>"}, "hello", ["<s>", "▁hello"]),
        ({"add_bos_token": False, "bos_token": "<s>"}, "hello", ["<s>", "▁hello"]),
        ({"extra_special_tokens": ["<|more|>"]}, "<|more|>", ["<s>", "<|more|>"]),
        ({"image_token": "<|image|>"}, "<|image|>", ["<s>", "<|image|>"]),
    ],
)
def test_files_of_transformers_5(tmp_path: Path, settings: dict[str, Any], text: str, ids: list[str]) -> None:
    """Compared with transformers 5.23, whose base class follows other rules than that of 4.57."""
    BASES["llama"].build().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": LATER, **settings}))
    assert open_folder(tmp_path).tokenizer.encode(text).tokens == ids


@pytest.mark.parametrize("name", ["roformer", "t5-additional", "codegen-add-bos", "mbart50-unknown", "clip-bytes"])
def test_a_refusal_names_the_class_and_the_key_and_its_hint_helps(tmp_path: Path, name: str) -> None:
    config = next(config for config in CONFIGS if config.name == name)
    config.write(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    with pytest.raises(UnsupportedError) as caught:
        open_folder(tmp_path)
    key, hint, settings = caught.value.details["key"], caught.value.hint or "", json.loads(file.read_text())
    assert caught.value.details["tokenizer_class"] in caught.value.message and key in hint
    named = re.search("to (\\w+Tokenizer) in", hint)
    corrected = {**settings, key: named[1]} if named else {k: value for k, value in settings.items() if k != key}
    file.write_text(json.dumps({**corrected, "extra_ids": 1} if key == "extra_ids" else corrected))
    if key == "tokenizer_class" and not named:
        (tmp_path / "config.json").unlink()
    open_folder(tmp_path)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"add_eos_token": True, "eos_token": "</s>"}, "add_eos_token"),
        ({"add_bos_token": False, "bos_token": "<s>"}, "add_bos_token"),
        ({"do_lower_case": True}, "do_lower_case"),
        ({"normalization": True}, "normalization"),
        ({"from_slow": True}, "from_slow"),
    ],
)
def test_an_unknown_class_is_refused_where_its_file_does_something_else(
    tmp_path: Path, settings: dict[str, Any], key: str
) -> None:
    BASES["llama"].build().save(str(tmp_path / "tokenizer.json"))
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"tokenizer_class": "OwnTokenizer", **settings}))
    with pytest.raises(UnsupportedError, match=f"OwnTokenizer with {key}") as caught:
        open_folder(tmp_path)
    assert caught.value.details["key"] == key and "`gpux convert org/name" in (caught.value.hint or "")
    config.write_text('{"tokenizer_class": "OwnTokenizer", "add_bos_token": true, "bos_token": "<s>"}')
    assert open_folder(tmp_path).tokenizer.encode("hello").tokens == ["<s>", "▁hello"]


@pytest.mark.toolchain
def test_the_table_has_the_defaults_of_transformers(warm_toolchains: Path) -> None:
    classes = {name: rules for name, rules in CLASSES.items() if name != LATER}
    found = run(warm_toolchains, "tokenizer_signatures.py", *sorted(classes))
    for name, rules in classes.items():
        defaults = found[name]["defaults"]
        assert dict(rules.tokens) == {key: value for key, value in defaults.items() if key in NAMES}, name
        assert rules.settings.items() <= defaults.items(), name
        assert rules.padding_side == found[name]["padding_side"], name
        assert list(rules.input_names) == found[name]["input_names"], name


@pytest.mark.toolchain
def test_add_prefix_space_gives_what_the_sentencepiece_model_would(warm_toolchains: Path, tmp_path: Path) -> None:
    for name, ids in run(warm_toolchains, "sentencepiece_tokenizers.py", str(tmp_path)).items():
        tokenizer = open_folder(tmp_path / name).tokenizer
        assert {text: tokenizer.encode(text).ids for text in ids} == ids, name


def run(toolchains: Path, script: str, *arguments: str) -> Any:
    command = [interpreter(toolchains / "optimum"), "-I", Path(__file__).with_name(script), *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
