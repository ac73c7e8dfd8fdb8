"""Broken JSON files of a repository: read, ignored with a warning, or refused before anything is stored."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux import pipeline, pull_model
from gpux.errors import CorruptFileError
from gpux.store import Store
from gpux.system.settings import Settings
from tests.models.bert import bert_repository
from tests.models.sentence import SentenceOptions
from tests.pull.conftest import Make

BOM = b"\xef\xbb\xbf"
NEEDED = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
)
#: transformers does not read them here: special tokens are in tokenizer_config.json's added_tokens_decoder.
NOT_NEEDED = (
    "generation_config.json",
    "preprocessor_config.json",
    "chat_template.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def write_repository(folder: Path) -> Path:
    options = SentenceOptions()
    bert_repository(folder, "feature-extraction", onnx=True, safetensors=False, sentence_transformers=options)
    for name in NOT_NEEDED:
        if not (folder / name).exists():
            (folder / name).write_text('{"some_key": 1}' if "added" not in name else "{}")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return write_repository(tmp_path / "model")


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The vector of the repository as it is."""
    folder = tmp_path_factory.mktemp("right")
    return vector(write_repository(folder / "model"), Settings.from_env(home=folder / "home"))


def spoil(file: Path) -> None:
    """Put a comma behind the last element."""
    text = file.read_text().rstrip()
    file.write_text(f"{text[:-1]},{text[-1]}")


def vector(folder: Path, settings: Settings) -> Any:
    with pipeline("feature-extraction", model=pull_model(folder, settings=settings), settings=settings) as pipe:
        return pipe.encode("the quick fox")


@pytest.mark.parametrize("name", [*NEEDED, *NOT_NEEDED])
def test_a_byte_order_mark_changes_nothing(repository: Path, settings: Settings, wanted: Any, name: str) -> None:
    file = repository / name
    file.write_bytes(BOM + file.read_bytes())
    np.testing.assert_array_equal(vector(repository, settings), wanted)


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("content", [None, b"", b"null", b'{"a": "\xff"}'], ids=["comma", "empty", "null", "bytes"])
def test_a_broken_file_that_is_needed_is_refused(
    repository: Path, settings: Settings, name: str, content: bytes | None
) -> None:
    file = repository / name
    right = file.read_bytes()
    if content is None:
        spoil(file)
    else:
        file.write_bytes(content)
    with pytest.raises(CorruptFileError) as caught:
        pull_model(repository, settings=settings)
    assert name in caught.value.message and "staging" not in caught.value.message
    assert Store(settings.store).models() == []
    if "orrect" in (caught.value.hint or ""):
        file.write_bytes(right)  # as the hint says
        assert vector(repository, settings).ndim == 1


@pytest.mark.parametrize("name", NOT_NEEDED)
def test_a_broken_file_that_is_not_needed_is_ignored(
    repository: Path, settings: Settings, wanted: Any, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    spoil(repository / name)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(vector(repository, settings), wanted)
    assert any(name in record.message and "ignored" in record.message for record in caplog.records)


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json"])
def test_the_older_files_are_needed_without_added_tokens_in_the_configuration(
    repository: Path, settings: Settings, name: str
) -> None:
    (repository / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    spoil(repository / name)
    with pytest.raises(CorruptFileError, match=name):
        pull_model(repository, settings=settings)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "modules.json", "1_Pooling/config.json"])
def test_a_broken_file_is_refused_before_a_conversion(
    tmp_path: Path, settings: Settings, stubs: Make, name: str
) -> None:
    folder = bert_repository(tmp_path / "model", "feature-extraction", sentence_transformers=SentenceOptions())
    spoil(folder / name)
    found = stubs(one={})
    with pytest.raises(CorruptFileError, match=name):
        pull_model(folder, settings=settings)
    assert found["one"].calls == 0


def test_files_of_text_are_not_needed_by_a_task_without_a_pipeline(
    tmp_path: Path, settings: Settings, stubs: Make
) -> None:
    folder = bert_repository(tmp_path / "model", "fill-mask")
    spoil(folder / "tokenizer_config.json")
    stubs(one={})
    assert pull_model(folder, settings=settings, task="multiple-choice").task == "multiple-choice"
