"""The worker writes tokenizers as transformers' AutoTokenizer builds them, and asks that for reference answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from gpux.convert.answer_case import CHAT, TOKENS, AnswerSet, read_answers
from gpux.convert.host.pip import interpreter
from gpux.model.effective import is_effective
from gpux.model.json_file import read_json
from gpux.model.variant import CallSpec, Manifest, Proof, Recipe, StoredModel
from gpux.pipelines.chat.template import ChatTemplate
from gpux.pipelines.text.tokenization import Tokenizer
from tests.pipelines.tokenizer_configs import CONFIGS, CUT, LONG, PAIR, SPECIALS, Config

pytestmark = pytest.mark.toolchain
GOLDENS = json.loads((Path(__file__).parents[1] / "pipelines" / "tokenizer_goldens.json").read_text(encoding="utf-8"))
SOURCE = Path(__file__).parents[2] / "src"
#: Tokens that are found under two sets of flags, which no tokenizer.json can say.
AS_IT_IS = ("llama-known-flags", "gemma-mask")
Write = Callable[[Path, str], Path]
BY_NAME = {config.name: config for config in CONFIGS}


@pytest.fixture(scope="session")
def write(warm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Run the worker's code on each subfolder; returns the folder with a subfolder for each."""

    def run(folder: Path, task: str) -> Path:
        output = tmp_path_factory.mktemp("effective")
        trial = Path(__file__).with_name("effective_trial.py")
        command = [str(warm_python), "-I", str(trial), str(SOURCE), str(folder), str(output), task]
        subprocess.run(command, check=True, env={**os.environ, "TRANSFORMERS_OFFLINE": "1"})
        return output

    return run


@pytest.fixture(scope="session")
def effective(write: Write, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The effective tokenizers of all configurations."""
    folder = tmp_path_factory.mktemp("configs")
    for config in CONFIGS:
        config.write(folder / config.name)
    output = write(folder, "feature-extraction")
    for name in AS_IT_IS:  # as a pull does for files that the worker did not write
        assert not (output / name / "tokenizer.json").exists()
        for file in (folder / name).iterdir():
            shutil.copyfile(file, output / name / file.name)
    return output


def stored(folder: Path) -> StoredModel:
    """A variant that has a tokenizer and nothing else."""
    manifest = Manifest(
        scheme="hf", id="tests/tokenizer", commit="0" * 40, task="feature-extraction", precision="fp32",
        recipe=Recipe("optimum"), graphs=(), files=(), call_spec=CallSpec(), proof=Proof("proven"), versions={},
        own_task="feature-extraction", model_type="bert", license=None, created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    return StoredModel(folder, manifest)


def answers(folder: Path) -> AnswerSet:
    found = read_answers(folder)
    assert found is not None
    return found


READABLE = [config for config in CONFIGS if "error" not in GOLDENS[config.name]]


@pytest.mark.parametrize("config", READABLE, ids=lambda config: config.name)
def test_the_effective_tokenizer_has_the_ids_of_the_reference(effective: Path, config: Config) -> None:
    golden, folder = GOLDENS[config.name], effective / config.name
    tokenizer = Tokenizer(stored(folder))
    assert [tokenizer.ids(text) for text in config.texts()] == golden["ids"]
    pair = tokenizer.backend.encode(*PAIR)
    if golden["class"] != "CodeLlamaTokenizerFast":  # for which the second text is one to be filled in
        assert {"ids": pair.ids, "type_ids": pair.type_ids} == golden["pair"]
    assert tokenizer([LONG], limit=CUT)[0].ids == golden["cut"]
    assert tokenizer.limit == golden["limit"]
    assert tokenizer.decode(golden["plain"]) == golden["decoded"]
    assert tokenizer.special_ids >= set(golden["special_ids"])
    settings = read_json(folder / "tokenizer_config.json")
    assert is_effective(settings) != (config.name in AS_IT_IS)
    if config.name in AS_IT_IS:
        return
    assert (settings["padding_side"], settings["truncation_side"]) == (
        golden["padding_side"],
        golden["truncation_side"],
    )
    named = {name: settings.get(name) for name in SPECIALS}
    ids = {name: None if token is None else tokenizer.backend.token_to_id(token) for name, token in named.items()}
    assert ids == {name: index for name, index in golden["specials"].items() if name in ids}


@pytest.mark.parametrize("config", READABLE, ids=lambda config: config.name)
def test_the_cases_of_ids_are_those_of_the_effective_tokenizer(effective: Path, config: Config) -> None:
    found = answers(effective / config.name)
    assert found.failures == {}
    assert found.versions["transformers (tokenizer)"] == GOLDENS["transformers"]
    assert len(found.cases) > 30 and {case.kind for case in found.cases} == {TOKENS}
    tokenizer = Tokenizer(stored(effective / config.name))
    for case in found.cases:
        limit = case.options.get("max_length")
        text: Any = tuple(case.inputs) if isinstance(case.inputs, list) else case.inputs
        (tokens,) = tokenizer([text], limit=limit)
        assert tokens.ids == case.expected["ids"], case.name
        assert case.expected["type_ids"] in (None, tokens.type_ids), case.name


@pytest.mark.parametrize(
    "config", [config for config in CONFIGS if config not in READABLE], ids=lambda config: config.name
)
def test_a_tokenizer_that_the_reference_refuses_has_no_cases(effective: Path, config: Config) -> None:
    found = answers(effective / config.name)
    assert not found.cases
    message = found.failures[TOKENS].partition(" See https://")[0]  # the goldens hold no addresses either
    assert message[:100] == GOLDENS[config.name]["error"][:100]
    assert not (effective / config.name / "tokenizer.json").exists()


def test_mobius_writes_the_same_tokenizers_in_a_process_with_transformers_4(
    effective: Path, toolchains: Path, tmp_path: Path
) -> None:
    names = ("llama-add-eos", "gpt-neox-add-eos", "llama-prefix-false")
    if not (toolchains / "mobius" / "tokenizer").is_dir():
        pytest.skip("no mobius toolchain: `GPUX_TOOLCHAINS=that-folder gpux toolchain install mobius`")
    for name in names:
        BY_NAME[name].write(tmp_path / "in" / name)
    trial = Path(__file__).with_name("effective_trial.py")
    command = [interpreter(toolchains / "mobius"), "-I", trial, SOURCE, tmp_path / "in", tmp_path / "out"]
    subprocess.run([*command, "feature-extraction"], check=True)
    *known, unknown = names
    for name in known:
        for file in ("tokenizer.json", "tokenizer_config.json", "answers.json"):
            assert read_json(tmp_path / "out" / name / file) == read_json(effective / name / file)
    found = answers(tmp_path / "out" / unknown)
    assert found.versions["transformers (tokenizer)"].startswith("5."), "which 4.57 cannot open"
    assert found.cases


# --- folders ----------------------------------------------------------------------------------------------------------

CHATML = (
    "{% for m in messages %}{% if m.role == 'system' and loop.index0 %}{{ raise_exception('system first') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
DATED = "Today is {{ strftime_now('%d %b %Y') }}. " + CHATML
DATE_STRING = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b') %}{% endif %}{{ date_string }}"
)


#: Settings that only transformers 5 reads: name -> configuration, settings.
LATER = {
    "later-list": ("bert", {"extra_special_tokens": ["<|more|>", "[Q]"]}),
    "later-class": ("qwen2", {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<|more|>"]}),
    "later-prefix": ("gpt2", {"tokenizer_class": "TokenizersBackend", "add_prefix_space": True}),
    "later-around": ("llama", {"tokenizer_class": "TokenizersBackend", "add_bos_token": True, "add_eos_token": True}),
    "later-end": ("gpt2", {"tokenizer_class": "TokenizersBackend", "add_eos_token": True}),
}
LATER_IDS = """
import json, sys, transformers
found = {}
for folder in sys.argv[2:]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = json.loads(sys.argv[1])
    found[folder] = [tokenizer(*text)["input_ids"] for text in texts]
print(json.dumps(found))
"""


@pytest.fixture(scope="session")
def folders(write: Write, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Repositories with other files than those of a plain tokenizer."""
    folder = tmp_path_factory.mktemp("folders")
    for name, template in (("chat", CHATML), ("no-system", NO_SYSTEM), ("dated", DATED), ("date-string", DATE_STRING)):
        replace(BY_NAME["qwen2"], config={"chat_template": template}).write(folder / name)
    replace(BY_NAME["qwen2"], config={"chat_template": "none"}).write(folder / "chat-file")
    (folder / "chat-file" / "chat_template.jinja").write_text(CHATML)
    BY_NAME["bert-keep-case"].write(folder / "module" / "0_Transformer")
    settings = {"max_seq_length": 20, "do_lower_case": True}
    (folder / "module" / "0_Transformer" / "sentence_bert_config.json").write_text(json.dumps(settings))
    modules = [{"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]
    (folder / "module" / "modules.json").write_text(json.dumps(modules))
    own = {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}}
    replace(BY_NAME["bert"], config=own).write(folder / "own-class")
    replace(BY_NAME["bert"], config={"tokenizer_class": "NoSuchTokenizer"}).write(folder / "unknown-class")
    BY_NAME["bert"].write(folder / "cut")
    file = folder / "cut" / "tokenizer.json"
    file.write_bytes(file.read_bytes()[:500])
    (folder / "no-tokenizer").mkdir()
    (folder / "no-tokenizer" / "config.json").write_text('{"model_type": "vit"}')
    for name, (base, config) in LATER.items():
        replace(BY_NAME[base], config=config).write(folder / name)
    replace(BY_NAME["generic-prefix"], config={"tokenizer_class": "PreTrainedTokenizerFast"}).write(folder / "letters")
    letters = tokenizers.models.BPE({letter: index for index, letter in enumerate("helowrd ")}, [], unk_token="<unk>")
    tokenizers.Tokenizer(letters).save(str(folder / "letters" / "tokenizer.json"))
    limits = BY_NAME["bert"]
    limits.write(folder / "truncating")
    tokenizer = limits_of(folder / "truncating" / "tokenizer.json")
    tokenizer.save(str(folder / "truncating" / "tokenizer.json"))
    return write(folder, "text-generation")


def limits_of(file: Path) -> Any:
    """A tokenizer with truncation and padding switched on, as all-MiniLM-L6-v2 is published."""
    tokenizer = tokenizers.Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(9)
    tokenizer.enable_padding(length=9, direction="left", pad_id=0, pad_type_id=0, pad_token="[PAD]")
    return tokenizer


@pytest.mark.parametrize(
    ("name", "chats"),
    [
        ("chat", {"one-message", "system", "several-turns", "system-and-turns", "no-generation-prompt", "tools"}),
        ("chat-file", {"one-message", "system", "several-turns", "system-and-turns", "no-generation-prompt", "tools"}),
        ("no-system", {"one-message", "several-turns", "no-generation-prompt", "tools"}),
        ("dated", set()),
        ("date-string", {"one-message", "system", "several-turns", "system-and-turns", "no-generation-prompt"}),
    ],
)
def test_the_prompts_of_a_chat_template(folders: Path, name: str, chats: set[str]) -> None:
    found = [case for case in answers(folders / name).cases if case.kind == CHAT]
    assert {case.name for case in found} == {f"chat/{chat}" for chat in chats}
    config = read_json(folders / name / "tokenizer_config.json")
    template = CHATML if name == "chat-file" else config["chat_template"]
    tokenizer = Tokenizer(stored(folders / name))
    for case in found:
        text = ChatTemplate({"default": template}, {}).render(case.inputs, **case.options)
        assert text == case.expected["text"]
        assert tokenizer.ids(text, add_special_tokens=False) == case.expected["ids"]


def test_the_tokenizer_of_a_module_is_written_and_asked(folders: Path) -> None:
    assert is_effective(read_json(folders / "module" / "0_Transformer" / "tokenizer_config.json"))
    assert not (folders / "module" / "tokenizer.json").exists()
    found = answers(folders / "module")
    assert found.cases and not found.failures


@pytest.mark.parametrize("name", ["own-class", "unknown-class"])
def test_a_class_that_transformers_does_not_have_is_named(folders: Path, name: str) -> None:
    found = answers(folders / name)
    assert not found.cases
    assert ("contains custom code" if name == "own-class" else "NoSuchTokenizer") in found.failures[TOKENS]
    assert str(folders.parent) not in found.failures[TOKENS]
    (warning,) = events(folders)[name]["warnings"]
    assert warning.startswith("transformers cannot open the tokenizer, so its ids are not proven")
    assert not (folders / name / "tokenizer.json").exists()


def test_files_of_transformers_5_are_read_as_it_reads_them(folders: Path, toolchains: Path, tmp_path: Path) -> None:
    if not (toolchains / "mobius" / "toolchain.json").is_file():
        pytest.skip("no mobius toolchain: `GPUX_TOOLCHAINS=that-folder gpux toolchain install mobius`")
    for name, (base, config) in LATER.items():
        replace(BY_NAME[base], config=config).write(tmp_path / name)
    texts = [[""], ["hello world"], ["The quick <|more|> [Q] fox"], ["one</s>two<|endoftext|>"], list(PAIR)]
    command = [interpreter(toolchains / "mobius"), "-I", "-c", LATER_IDS, json.dumps(texts)]
    done = subprocess.run([*command, *(tmp_path / name for name in LATER)], check=True, capture_output=True)
    wanted = json.loads(done.stdout.splitlines()[-1])
    for name in LATER:
        backend = Tokenizer(stored(folders / name)).backend
        assert [backend.encode(*text).ids for text in texts] == wanted[str(tmp_path / name)], name
        assert answers(folders / name).cases


def test_a_damaged_tokenizer_json_is_refused(folders: Path) -> None:
    code, message = events(folders)["cut"]["refused"]
    assert code == "corrupt_file"
    assert message.startswith("tokenizer.json cannot be read: ")


def test_texts_that_the_reference_refuses_are_counted(folders: Path) -> None:
    """The vocabulary has no letter for them, and no unknown token."""
    found = answers(folders / "letters")
    assert found.cases
    assert found.failures.keys() == {"further tokens"}
    assert "texts are refused by transformers: Exception: Unk token" in found.failures["further tokens"]


def test_a_model_without_tokenizer_has_no_cases(folders: Path) -> None:
    assert answers(folders / "no-tokenizer") == AnswerSet()
    assert events(folders)["no-tokenizer"] == {"warnings": [], "refused": None}


def test_truncation_and_padding_are_off_and_their_sides_kept(folders: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(folders / "truncating" / "tokenizer.json"))
    assert (tokenizer.truncation, tokenizer.padding) == (None, None)
    config = read_json(folders / "truncating" / "tokenizer_config.json")
    assert (config["padding_side"], config["model_max_length"]) == ("left", 24)


def events(folder: Path) -> dict[str, Any]:
    return read_json(folder / "events.json")
