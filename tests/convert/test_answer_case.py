"""Answer cases: what is written is what is read."""

from pathlib import Path

import numpy as np
import pytest

from gpux.convert.answer_case import (
    ANSWERS,
    CALL,
    ENCODE,
    TOKENS,
    AnswerCase,
    AnswerSet,
    merged,
    read_answers,
    write_answers,
)
from gpux.errors import CorruptFileError


def test_arrays_and_values_are_read_as_they_were_written(tmp_path: Path) -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    tokens = AnswerCase("tokens/pair", TOKENS, ["a", "ß"], {"ids": [1, 2], "type_ids": None})
    encode = AnswerCase("encode/two", ENCODE, ["a", "b"], vectors, {"normalize_embeddings": True})
    write_answers(AnswerSet((tokens, encode), {"transformers": "4.57.6"}, {CALL: "no pad token"}), tmp_path)

    found = read_answers(tmp_path)

    assert found is not None
    assert found.cases[0] == tokens
    assert found.cases[1].expected.dtype == np.float32
    assert np.array_equal(found.cases[1].expected, vectors)
    assert found.cases[1].options == {"normalize_embeddings": True}
    assert found.versions == {"transformers": "4.57.6"}
    assert found.failures == {CALL: "no pad token"}


def test_a_folder_without_answers_has_none(tmp_path: Path) -> None:
    assert read_answers(tmp_path) is None


@pytest.mark.parametrize("content", ["", "[]", '{"cases": [{"name": "a"}]}', '{"cases": 3}'])
def test_an_unreadable_file_is_reported(tmp_path: Path, content: str) -> None:
    (tmp_path / ANSWERS).write_text(content)
    with pytest.raises(CorruptFileError, match="answer cases"):
        read_answers(tmp_path)


def test_a_missing_array_is_reported(tmp_path: Path) -> None:
    content = '{"cases": [{"name": "a", "kind": "encode", "inputs": [], "expected": {"array": "a"}}]}'
    (tmp_path / ANSWERS).write_text(content)
    with pytest.raises(CorruptFileError):
        read_answers(tmp_path)


def test_sets_are_merged_in_order() -> None:
    first = AnswerSet((AnswerCase("a", CALL, 1, 2),), {"transformers": "4"}, {})
    second = AnswerSet((AnswerCase("b", CALL, 1, 2),), {"sentence-transformers": "5"}, {ENCODE: "failed"})
    found = merged([first, second])
    assert [case.name for case in found.cases] == ["a", "b"]
    assert found.versions == {"transformers": "4", "sentence-transformers": "5"}
    assert found.failures == {ENCODE: "failed"}


def test_arrays_within_inputs_and_answers_come_back(tmp_path: Path) -> None:
    picture, mask = np.arange(12, dtype=np.uint8).reshape(2, 2, 3), np.eye(2, dtype=bool)
    answer = [{"label": "cat", "score": 0.5, "mask": mask}]
    write_answers(AnswerSet((AnswerCase("call/a", CALL, [picture, picture + 1], answer),)), tmp_path)
    found = read_answers(tmp_path)
    assert found is not None
    (case,) = found.cases
    assert [array.tolist() for array in case.inputs] == [picture.tolist(), (picture + 1).tolist()]
    assert case.inputs[0].dtype == np.uint8
    assert case.expected[0].pop("mask").tolist() == mask.tolist()
    assert case.expected == [{"label": "cat", "score": 0.5}]
