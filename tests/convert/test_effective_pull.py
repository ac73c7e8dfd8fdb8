"""A model whose tokenizer_config.json says more than its tokenizer.json: pulled, proven, and opened."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpux import Settings, pull_model
from gpux.convert.answer_case import CHAT, ENCODE, TOKENS, read_answers
from gpux.model.variant import StoredModel
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.proof.cases import FOLDER
from tests.models import zoo

pytestmark = pytest.mark.toolchain


NAMES = [
    zoo.folder_name(model_type, task)
    for model_type, task in (
        ("llama", "text-generation-with-past"), ("llama", "feature-extraction"), ("bert", "feature-extraction"),
        ("albert", "feature-extraction"),
    )
] + ["slow-albert"]  # fmt: skip


@pytest.fixture(scope="module")
def models(warm_toolchains: Path, shared_folder: Callable[[str], Path]) -> list[Path]:
    """A decoder that writes, one that embeds, a BERT, an ALBERT and one with a slow tokenizer alone."""
    folder = shared_folder(f"effective-{os.getpid()}")
    python = warm_toolchains / "optimum" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([python, zoo.__file__, folder, *NAMES], check=True, capture_output=True)
    return [folder / name for name in NAMES]


def edited(source: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(source, folder, dirs_exist_ok=True)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


@pytest.mark.parametrize("converter", ["mobius", "optimum"])
def test_an_end_token_of_the_configuration(
    models: list[Path], warm_toolchains: Path, tmp_path: Path, converter: str
) -> None:
    source = edited(models[0], tmp_path / "model", add_eos_token=True, tokenizer_class="LlamaTokenizer")
    settings = Settings.from_env(toolchains=warm_toolchains, offline=True)
    model = pull_model(source, task="text-generation", converter=converter, settings=settings)
    assert isinstance(model, StoredModel)
    tokenizer = Tokenizer(model)
    end = json.loads((model.path / "tokenizer_config.json").read_text())["eos_token"]
    assert tokenizer.ids("hello")[-1] == tokenizer.backend.token_to_id(end)
    proof = model.manifest.proof
    assert (proof.status, proof.answers and proof.answers.status) == ("proven", "proven"), proof.answers
    kept = read_answers(model.path / FOLDER)
    assert kept is not None and kept.versions["transformers (tokenizer)"] == "4.57.6"
    assert {case.kind for case in kept.cases} >= {TOKENS}
    assert [name for name, why in kept.failures.items() if name in (TOKENS, CHAT)] == []


@pytest.mark.parametrize(
    ("model", "tokenizer", "module", "pooling"),
    [
        (1, {"add_eos_token": True, "tokenizer_class": "LlamaTokenizer", "pad_token": "</s>"}, "", "lasttoken"),
        (2, {"do_lower_case": False, "additional_special_tokens": ["<|more|>"]}, "0_Transformer", "mean_tokens"),
    ],
    ids=["an end token at which the model pools", "texts lower-cased by sentence-transformers"],
)
def test_sentence_vectors(
    models: list[Path], warm_toolchains: Path, tmp_path: Path, model: int, tokenizer: dict[str, Any], module: str,
    pooling: str,
) -> None:  # fmt: skip
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    transformer = edited(models[model], folder / module, **tokenizer)
    if module:
        (transformer / "sentence_bert_config.json").write_text('{"max_seq_length": 24, "do_lower_case": true}')
    paths = {module: "Transformer", "1_Pooling": "Pooling"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in paths.items()]
    listed = [{"idx": index, "name": str(index), **entry} for index, entry in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(listed))
    size = json.loads((transformer / "config.json").read_text())["hidden_size"]
    modes = {f"pooling_mode_{mode}": mode == pooling for mode in ("mean_tokens", "lasttoken")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": size, **modes}))
    settings = Settings.from_env(toolchains=warm_toolchains, offline=True)
    found = pull_model(folder, task="feature-extraction", settings=settings)
    assert isinstance(found, StoredModel)
    proof = found.manifest.proof
    assert (proof.status, proof.answers and proof.answers.status) == ("proven", "proven"), proof.answers
    kept = read_answers(found.path / FOLDER)
    assert kept is not None and {case.kind for case in kept.cases} == {TOKENS, ENCODE}


def test_a_slow_tokenizer_that_the_fast_one_of_transformers_differs_from(
    models: list[Path], warm_toolchains: Path, tmp_path: Path
) -> None:
    """ALBERT's fast tokenizer splits Hindi otherwise than its slow one, which the variant's is equal to."""
    python = warm_toolchains / "optimum" / "bin" / "python"
    program = Path(__file__).with_name("tokenizer_folders.py")
    subprocess.run([python, "-I", program, tmp_path / "slow"], check=True, capture_output=True)
    folder = shutil.copytree(models[3], tmp_path / "model")
    for file in folder.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            file.unlink()
    shutil.copyfile(tmp_path / "slow" / "albert" / "spiece.model", folder / "spiece.model")
    settings = Settings.from_env(toolchains=warm_toolchains, offline=True)
    found = pull_model(folder, task="feature-extraction", settings=settings)
    assert isinstance(found, StoredModel)
    proof = found.manifest.proof
    assert proof.answers is not None and proof.answers.status == "proven"
    assert (found.path / "tokenizer.json").is_file()


def test_a_slow_tokenizer_that_the_fast_one_differs_from_around_special_tokens(
    models: list[Path], warm_toolchains: Path
) -> None:
    settings = Settings.from_env(toolchains=warm_toolchains, offline=True)
    found = pull_model(models[4], task="feature-extraction", settings=settings)
    assert found.manifest.proof.answers is not None and found.manifest.proof.answers.status == "proven"
