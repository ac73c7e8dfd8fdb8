"""The worker writes tokenizers as transformers' AutoTokenizer builds them, and asks that for reference answers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpux.convert.answer_case import TOKENS, AnswerSet, read_answers
from gpux.model.effective import is_effective
from gpux.model.json_file import read_json
from gpux.model.variant import CallSpec, Manifest, Proof, Recipe, StoredModel
from gpux.pipelines.text.tokenization import Tokenizer
from tests.pipelines.tokenizer_configs import CONFIGS, CUT, LONG, PAIR, SPECIALS, Config

pytestmark = pytest.mark.toolchain
GOLDENS = json.loads((Path(__file__).parents[1] / "pipelines" / "tokenizer_goldens.json").read_text(encoding="utf-8"))
SOURCE = Path(__file__).parents[2] / "src"
Write = Callable[[Path, str], Path]


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
    return write(folder, "feature-extraction")


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
    assert is_effective(settings)
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
    assert found.failures[TOKENS][:100] == GOLDENS[config.name]["error"][:100]
    assert not (effective / config.name / "tokenizer.json").exists()
