"""The committed small model, converted: it writes the sentences that transformers wrote when it was made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripts.perplexity import SMALL, perplexities

from gpux import Settings, pull_model
from gpux.model.variant import StoredModel
from gpux.pipelines.generation.text_generation import TextGenerationPipeline
from gpux.runtime.generation import rounded_head
from gpux.runtime.generation.shortlist import Shortlist

pytestmark = pytest.mark.toolchain
EXPECTED: dict[str, Any] = json.loads((SMALL / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture
def model(toolchains: Path) -> StoredModel:
    return pull_model(SMALL, settings=Settings.from_env(toolchains=toolchains, offline=True))


def test_it_writes_what_it_wrote(model: StoredModel) -> None:
    assert model.manifest.proof.status == "proven"
    with TextGenerationPipeline(model, device="cpu") as pipe:
        for case in EXPECTED["greedy"]:
            item = [{"role": "user", "content": case["prompt"]}] if case["chat"] else case["prompt"]
            (found,) = pipe.generate([item], max_new_tokens=EXPECTED["max_new_tokens"])[0]
            assert list(found.tokens) == case["new_ids"]
            assert found.prompt_tokens == len(case["prompt_ids"])


def test_it_writes_the_same_without_reading_its_head(model: StoredModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trained head, far below the size from which it pays: of 2,560 tokens, only few can be the best."""
    monkeypatch.setattr(rounded_head, "_FEW", 1.0)
    with TextGenerationPipeline(model, device="cpu") as pipe:
        alone = pipe.memory_bytes
        shortlist = Shortlist(pipe.session, worth=1, least=0)
        thread = shortlist.count(1)
        assert thread is not None
        thread.join()
        assert shortlist.head is not None
        pipe._decoder.shortlist = shortlist
        assert pipe.memory_bytes == alone + shortlist.nbytes
        for case in EXPECTED["greedy"]:
            item = [{"role": "user", "content": case["prompt"]}] if case["chat"] else case["prompt"]
            (found,) = pipe.generate([item], max_new_tokens=EXPECTED["max_new_tokens"])[0]
            assert list(found.tokens) == case["new_ids"]
        assert 0 < shortlist.head._looked_at < 100 * shortlist.head._asked


def test_its_perplexity_is_that_of_the_original(model: StoredModel) -> None:
    assert perplexities(model) == pytest.approx(EXPECTED["perplexity"], rel=1e-4)
