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
from gpux.convert.answer_case import CHAT, TOKENS, read_answers
from gpux.model.variant import StoredModel
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.proof.cases import FOLDER
from tests.models import zoo

pytestmark = pytest.mark.toolchain


@pytest.fixture(scope="module")
def llama(warm_toolchains: Path, shared_folder: Callable[[str], Path]) -> Path:
    folder = shared_folder(f"effective-{os.getpid()}")
    name = zoo.folder_name("llama", "text-generation-with-past")
    python = warm_toolchains / "optimum" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([python, zoo.__file__, folder, name], check=True, capture_output=True)
    return folder / name


def edited(source: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(source, folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return folder


@pytest.mark.parametrize("converter", ["mobius", "optimum"])
def test_an_end_token_of_the_configuration(llama: Path, warm_toolchains: Path, tmp_path: Path, converter: str) -> None:
    source = edited(llama, tmp_path / "model", add_eos_token=True, tokenizer_class="LlamaTokenizer")
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
