"""The goldens of tokenizer configurations belong to the configurations as they are."""

from __future__ import annotations

import json
from pathlib import Path

from tests.pipelines.tokenizer_bases import BASES
from tests.pipelines.tokenizer_configs import CONFIGS

GOLDENS = json.loads((Path(__file__).parent / "tokenizer_goldens.json").read_text(encoding="utf-8"))


def test_each_configuration_has_a_golden() -> None:
    names = [config.name for config in CONFIGS]
    assert len(set(names)) == len(names) >= 60
    assert set(names) == GOLDENS.keys() - {"transformers"}


def test_a_golden_has_ids_for_each_text() -> None:
    for config in CONFIGS:
        golden = GOLDENS[config.name]
        assert "error" in golden or len(golden["ids"]) == len(config.texts()), config.name


def test_bases_are_the_same_each_time() -> None:
    for base in BASES.values():
        assert base.build().to_str() == base.build().to_str()
