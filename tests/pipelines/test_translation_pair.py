"""``translation_en_to_de`` as the name of a task."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpux import Settings, plan_model
from gpux.errors import UsageError
from gpux.model.tasks import canonical, translation_pair
from gpux.pipelines.generation.text2text_generation import TranslationPipeline
from gpux.pipelines.registry import pipeline_class


@pytest.mark.parametrize("name", ["translation_en_to_de", "translation-en-to-de", " Translation_EN_to_DE "])
def test_a_pair_of_languages_is_a_translation(name: str) -> None:
    pair = translation_pair(name)
    assert pair is not None and [language.lower() for language in pair] == ["en", "de"]
    assert canonical(name) == "text2text-generation"
    assert pipeline_class(name) is TranslationPipeline


@pytest.mark.parametrize(
    "name", ["translation", "translation_en_de", "translation_en_to_", "summarization_en_to_de", "translation_a_b_to_c"]
)
def test_other_names_are_not(name: str) -> None:
    assert translation_pair(name) is None


def test_an_incomplete_pair_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="no task 'translation_en_de'") as caught:
        plan_model(tmp_path, task="translation_en_de", settings=Settings.from_env(offline=True))
    assert "translation" in str(caught.value.hint)
