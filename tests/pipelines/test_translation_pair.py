"""``translation_en_to_de`` as the name of a task."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, models, pre_tokenizers, processors

from gpux import Settings, plan_model
from gpux.errors import UsageError
from gpux.model.tasks import canonical, translation_pair
from gpux.pipelines.generation.text2text_generation import TranslationPipeline
from gpux.pipelines.registry import pipeline_class
from gpux.runtime.generation.options import GenerationOptions


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


class Languages:
    """A tokenizer of single words; an input begins with its language and ends with ``</s>``, as that of m2m_100."""

    def __init__(self) -> None:
        words = ["<unk>", "</s>", "__en__", "__de__", "a", "b", "fr"]
        self.backend = tokenizers.Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
        self.backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self.backend.add_special_tokens([AddedToken(word, special=True) for word in words[:4]])
        self.backend.post_processor = processors.TemplateProcessing(
            "__en__ $A </s>", None, [("__en__", 2), ("</s>", 1)]
        )
        self.special_ids = frozenset(range(4))

    def ids(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return list(self.backend.encode(text, add_special_tokens=add_special_tokens).ids)


def opened(pair: tuple[str, str] | None, tokenizer_class: str = "M2M100Tokenizer") -> Any:
    """A translation pipeline without a model."""
    pipe: Any = object.__new__(TranslationPipeline)
    pipe._pair, pipe.tokenizer, pipe.defaults = pair, Languages(), GenerationOptions()
    pipe.model = SimpleNamespace(id="org/m2m", read_json=lambda name: {"tokenizer_class": tokenizer_class})
    return pipe


def read(pipe: Any, **options: Any) -> tuple[list[int], int | None]:
    """The encoder's ids of a text, and the first token of its translation."""
    call = SimpleNamespace(chosen=options)
    return pipe._read("a b", call), pipe._generation_options(options).forced_bos_token_id


def test_a_multilingual_model_translates_between_the_languages_of_the_task() -> None:
    assert read(opened(("de", "en"))) == ([3, 4, 5, 1], 2)
    assert read(opened(("en", "de"))) == ([2, 4, 5, 1], 3)
    assert read(opened(None)) == ([2, 4, 5, 1], None)
    assert read(opened(("en", "de"), "M2M100TokenizerFast")) == ([2, 4, 5, 1], 3)


def test_languages_of_a_call_win_over_those_of_the_task() -> None:
    assert read(opened(("en", "de")), src_lang="de", tgt_lang="en") == ([3, 4, 5, 1], 2)
    assert read(opened(("en", "de")), tgt_lang="en") == ([2, 4, 5, 1], 2)


@pytest.mark.parametrize("tokenizer_class", ["T5Tokenizer", "MarianTokenizer", "PreTrainedTokenizerFast"])
def test_other_models_have_no_tokens_of_languages(tokenizer_class: str) -> None:
    assert read(opened(("de", "en"), tokenizer_class)) == ([2, 4, 5, 1], None)


@pytest.mark.parametrize("pair", [("en", "fr"), ("xx", "en")])  # "fr" is a word, not a language
def test_a_language_that_the_tokenizer_does_not_have_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="has no language") as caught:
        read(opened(pair))
    assert "en_XX" in str(caught.value.hint)
    assert read(opened(pair), src_lang="de", tgt_lang="en") == ([3, 4, 5, 1], 2)
