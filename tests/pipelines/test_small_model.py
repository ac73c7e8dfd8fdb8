"""The committed small model, converted: it writes the sentences that transformers wrote when it was made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from scripts.perplexity import SMALL, perplexities

from gpux import Settings, pull_model
from gpux.model.variant import StoredModel
from gpux.pipelines.generation.text_generation import TextGenerationPipeline

pytestmark = pytest.mark.toolchain
EXPECTED: dict[str, Any] = json.loads((SMALL / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model(warm_toolchains: Path, shared_folder: Callable[[str], Path]) -> StoredModel:
    folder = shared_folder("small-model")
    with FileLock(folder / "lock"):
        return pull_model(
            SMALL, settings=Settings.from_env(home=folder / "home", toolchains=warm_toolchains, offline=True)
        )


def test_generates_the_expected_texts(model: StoredModel) -> None:
    assert model.manifest.proof.status == "proven"
    with TextGenerationPipeline(model, device="cpu") as pipe:
        for case in EXPECTED["greedy"]:
            item = [{"role": "user", "content": case["prompt"]}] if case["chat"] else case["prompt"]
            (found,) = pipe.generate([item], max_new_tokens=EXPECTED["max_new_tokens"])[0]
            assert list(found.tokens) == case["new_ids"]
            assert found.prompt_tokens == len(case["prompt_ids"])


def test_perplexity_equals_that_of_the_original(model: StoredModel) -> None:
    assert perplexities(model) == pytest.approx(EXPECTED["perplexity"], rel=1e-4)
