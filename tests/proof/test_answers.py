"""Comparison of a pipeline's answers with the reference's, and the replay of the kept cases."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux.convert.answer_case import CALL, CHAT, ENCODE, TOKENS, AnswerCase, AnswerSet, read_answers
from gpux.errors import CancelledError, InputError, ProofError
from gpux.model.variant import AnswerProof, CallSpec, Manifest, Proof, StoredModel
from gpux.proof.answers import (
    KEPT_BYTES,
    Comparison,
    Difference,
    compare_answers,
    differs,
    keep_answers,
    prove_answers,
    replay_answers,
)
from gpux.proof.cases import FOLDER
from gpux.system.cancel import CancelToken

VERSIONS = {"transformers": "4.57.6"}


@dataclass
class Answers:
    """A pipeline with fixed answers: those of the cases themselves, unless others are given by name."""

    others: Mapping[str, Any] = field(default_factory=dict)
    kinds: Collection[str] = (TOKENS, CHAT, ENCODE, CALL)
    tokens: int = 4
    answered: list[str] = field(default_factory=list)

    def answer(self, case: AnswerCase) -> Any:
        self.answered.append(case.name)
        found = self.others.get(case.name, case.expected)
        if isinstance(found, Exception):
            raise found
        return found

    def length(self, case: AnswerCase) -> int:
        return self.tokens


def tokens(ids: list[int], type_ids: list[int] | None = None) -> dict[str, Any]:
    return {"ids": ids, "type_ids": type_ids}


WORDS = AnswerCase("tokens/words", TOKENS, "hello world", tokens([1, 7, 8, 2], [0, 0, 0, 0]))
CHATS = AnswerCase("chat/plain", CHAT, [{"role": "user", "content": "hi"}], {"text": "<user>hi", "ids": [3, 9]})
VECTORS = AnswerCase("encode/two", ENCODE, ["a", "b"], np.array([[1.0, 0.0], [0.6, 0.8]], np.float32))
RANKED = [{"label": "A", "score": 0.5}, {"label": "B", "score": 0.3}, {"label": "C", "score": 0.2}]
LABELS = AnswerCase("call/one", CALL, "text", RANKED, {"top_k": None})
ALL = (WORDS, CHATS, VECTORS, LABELS)


def compared(case: AnswerCase, answer: Any, **options: Any) -> Comparison:
    return compare_answers([case], Answers({case.name: answer}), 1e-4, **options)


def message(case: AnswerCase, answer: Any, **options: Any) -> str:
    found = compared(case, answer, **options)
    return str(found.differences[0]) if found.differences else ""


def test_equal_answers_are_proven() -> None:
    proof, found = prove_answers(AnswerSet(ALL, VERSIONS), Answers(), "fp32")
    assert proof == AnswerProof("proven", 4, 0.0, VERSIONS)
    assert found.compared == ALL


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (tokens([1, 7, 9, 2], [0] * 4), "token 2 is 9, and 8 in the reference"),
        (tokens([1, 7, 8], [0] * 3), "token 3 is missing, and 2 in the reference; 3 tokens, and 4 in the reference"),
        (tokens([1, 7, 8, 2, 2], [0] * 5), "token 4 is 2, and missing in the reference"),
        (tokens([1, 7, 8, 2], [0, 1, 0, 0]), "type id of token 1 is 1, and 0 in the reference"),
        (InputError("it is refused"), "the pipeline answers with InputError: it is refused"),
        (ZeroDivisionError("oh"), "the pipeline answers with ZeroDivisionError: oh"),
    ],
)
def test_token_ids_are_equal_or_the_first_that_differs_is_named(answer: Any, said: str) -> None:
    found = message(WORDS, answer)
    assert said in found
    assert 'tokens/words, input "hello world"' in found


def test_type_ids_without_a_reference_are_not_compared() -> None:
    case = AnswerCase("tokens/pair", TOKENS, ["a", "b"], tokens([1, 2]))
    assert not message(case, tokens([1, 2], [0, 1]))


def test_a_prompt_differs_by_its_text_or_its_ids() -> None:
    assert '"<user>ho"' in message(CHATS, {"text": "<user>ho", "ids": [3, 9]})
    assert "token 1 is 8" in message(CHATS, {"text": "<user>hi", "ids": [3, 8]})


def test_long_texts_are_shown_where_they_differ() -> None:
    case = AnswerCase("call/long", CALL, "x", [{"generated_text": "a" * 500 + "b" + "c" * 200}])
    found = message(case, [{"generated_text": "a" * 500 + "d" + "c" * 200}])
    assert "from character 480 on" in found and "aaad" in found and "aaab" in found


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([[1.0, 0.0], [0.6, 0.80005]], ""),
        ([[1.0, 0.0], [0.6, 0.9]], "the answer at [1, 1] is 0.9, and 0.8 in the reference"),
        ([[1.0, 0.0], [0.6, float("nan")]], "at [1, 1] is nan"),
        ([[1.0, 0.0]], "the shape (1, 2), and the reference has the shape (2, 2)"),
        ([[1.0, 0.0], [0.6]], "no numbers"),
        ("text", "no numbers"),
    ],
)
def test_vectors_are_compared_within_the_tolerance(answer: Any, said: str) -> None:
    arrays = np.array(answer, np.float32) if isinstance(answer, list) and len({*map(len, answer)}) == 1 else answer
    found = message(VECTORS, arrays)
    assert said in found and bool(found) == bool(said)


@pytest.mark.parametrize(("difference", "differs"), [(0.09, False), (0.11, True)])
def test_the_tolerance_scales_with_the_largest_number_of_the_case(difference: float, differs: bool) -> None:
    case = AnswerCase("call/lists", CALL, ["a", "b"], [[[1.0, -1000.0]], [[0.5], [0.25]]])
    assert bool(message(case, [[[1.0, -1000.0]], [[0.5], [0.25 + difference]]])) is differs


def ranked(*pairs: tuple[str, float]) -> list[dict[str, Any]]:
    return [{"label": label, "score": score} for label, score in pairs]


@pytest.mark.parametrize(
    ("expected", "actual", "equal"),
    [
        ([("A", 0.5), ("B", 0.3)], [("A", 0.5), ("B", 0.30005)], True),
        ([("A", 0.5), ("B", 0.3)], [("A", 0.5), ("B", 0.31)], False),
        ([("A", 0.5), ("B", 0.3)], [("B", 0.5), ("A", 0.3)], False),
        ([("A", 0.30004), ("B", 0.3)], [("B", 0.30003), ("A", 0.3)], True),  # nearly equal, exchanged
        ([("A", 0.5), ("B", 0.3)], [("A", 0.5), ("C", 0.3)], True),  # a third one just below was cut
        ([("A", 0.5), ("B", 0.3)], [("C", 0.5), ("B", 0.3)], False),
        ([("A", 0.5), ("B", 0.3)], [("A", 0.5)], False),
    ],
)
def test_entries_with_nearly_equal_scores_may_be_exchanged(expected: Any, actual: Any, equal: bool) -> None:
    case = AnswerCase("call/ranked", CALL, "text", ranked(*expected))
    assert (message(case, ranked(*actual)) == "") is equal


def test_answers_to_several_inputs_are_not_exchanged() -> None:
    best = ranked(("A", 0.50001), ("B", 0.5))
    case = AnswerCase("call/several", CALL, ["one", "two"], best)
    assert message(case, [best[1], best[0]])
    assert not message(case, best)


def test_candidates_of_several_inputs_are_rankings() -> None:
    case = AnswerCase("call/several", CALL, ["one", "two"], [ranked(("A", 0.30004), ("B", 0.3)), RANKED])
    assert not message(case, [ranked(("B", 0.30003), ("A", 0.3)), RANKED])


def test_other_keys_and_integers_are_equal() -> None:
    case = AnswerCase("call/token", CALL, "text", {"token": 3007, "score": 0.5})
    assert not message(case, {"token": 3007, "score": 0.50001})
    assert message(case, {"token": 3008, "score": 0.5})
    assert message(case, {"score": 0.5})


@pytest.mark.parametrize(("precision", "status"), [("fp32", "failed"), ("fp16", "proven")])
def test_generated_texts_are_equal_in_float32(precision: str, status: str) -> None:
    case = AnswerCase("call/text", CALL, "Once", [{"generated_text": "Once upon"}])
    other = Answers({case.name: [{"generated_text": "Once more"}]})
    assert prove_answers(AnswerSet((case,)), other, precision)[0].status == status


def test_a_failed_proof_has_the_first_difference_and_every_case() -> None:
    other = Answers({WORDS.name: tokens([1]), LABELS.name: []})
    proof, found = prove_answers(AnswerSet(ALL, VERSIONS), other, "fp32")
    assert (proof.status, proof.cases) == ("failed", 4)
    assert proof.reason == str(found.differences[0])
    assert [difference.case.name for difference in found.differences] == [WORDS.name, LABELS.name]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (None, "no reference answers"),
        (AnswerSet(), "no reference answers"),
        (AnswerSet((WORDS,)), "token ids only"),
        (AnswerSet((WORDS,), failures={ENCODE: "no pad token"}), "the reference gives no encode: no pad token"),
    ],
)
def test_without_an_answer_of_the_graphs_nothing_is_proven(answers: AnswerSet | None, reason: str) -> None:
    proof, _ = prove_answers(answers, Answers(), "fp32")
    assert proof.status == "not compared"
    assert reason in proof.reason


def test_what_the_reference_cannot_answer_is_named_beside_what_is_proven() -> None:
    proof, _ = prove_answers(AnswerSet((VECTORS,), failures={CHAT: "no template"}), Answers(), "fp32")
    assert proof.status == "proven"
    assert "chat: no template" in proof.reason


def test_kinds_that_a_pipeline_does_not_have_are_left_out() -> None:
    proof, found = prove_answers(AnswerSet(ALL), Answers(kinds=(CALL,)), "fp32")
    assert (proof.status, proof.cases, found.compared) == ("proven", 1, (LABELS,))


def test_longer_inputs_than_the_graphs_are_proven_for_may_differ() -> None:
    other = Answers({VECTORS.name: np.zeros((2, 2))}, tokens=30)
    proof, _ = prove_answers(AnswerSet((VECTORS, LABELS)), other, "fp32", limit=20)
    assert (proof.status, proof.cases) == ("proven", 1)
    assert "encode/two is longer than 20 tokens" in proof.reason
    assert prove_answers(AnswerSet((VECTORS,)), other, "fp32", limit=30)[0].status == "failed"


def test_a_proof_that_takes_too_long_ends_between_cases_and_says_so() -> None:
    proof, _ = prove_answers(AnswerSet(ALL), Answers(), "fp32", seconds=-1.0)
    assert proof.status == "not compared"
    assert "4 of 4 cases were not compared" in proof.reason


def test_a_proof_is_cancelled_between_cases() -> None:
    token = CancelToken()

    class Cancelling(Answers):
        def answer(self, case: AnswerCase) -> Any:
            token.cancel()
            return super().answer(case)

    asked = Cancelling()
    with pytest.raises(CancelledError):
        prove_answers(AnswerSet(ALL), asked, "fp32", cancel=token)
    assert asked.answered == [WORDS.name]


def test_a_cancelled_pipeline_is_not_a_difference() -> None:
    with pytest.raises(CancelledError):
        compared(WORDS, CancelledError("stop"))


def test_the_smallest_cases_are_kept(tmp_path: Path) -> None:
    large = AnswerCase("encode/large", ENCODE, ["a"], np.zeros((KEPT_BYTES // 4 + 1, 1), np.float32))
    keep_answers(AnswerSet((large, *ALL), VERSIONS, {CALL: "x"}), (large, *ALL), tmp_path)
    kept = read_answers(tmp_path / FOLDER)
    assert kept is not None
    assert [case.name for case in kept.cases] == [case.name for case in ALL]
    assert (kept.versions, kept.failures) == (VERSIONS, {CALL: "x"})


def test_at_least_one_case_is_kept(tmp_path: Path) -> None:
    large = AnswerCase("encode/large", ENCODE, ["a"], np.zeros((KEPT_BYTES // 4 + 1, 1), np.float32))
    keep_answers(AnswerSet((large,)), (large,), tmp_path)
    kept = read_answers(tmp_path / FOLDER)
    assert kept is not None and len(kept.cases) == 1


def stored(folder: Path, status: Any = "proven") -> StoredModel:
    keep_answers(AnswerSet(ALL, VERSIONS), ALL, folder)
    proof = Proof("proven", answers=AnswerProof(status, 4))
    manifest = Manifest("hf", "org/name", "a" * 40, "fill-mask", "fp32", "optimum", (), (), CallSpec(), proof, {})
    return StoredModel(folder, manifest)


def test_a_replay_repeats_the_comparison(tmp_path: Path) -> None:
    found = replay_answers(stored(tmp_path), Answers())
    assert [case.name for case in found.compared] == [case.name for case in ALL]
    assert found.max_abs_diff == 0.0


def test_a_replay_names_the_first_difference(tmp_path: Path) -> None:
    other = Answers({WORDS.name: tokens([1, 7, 9, 2], [0] * 4), LABELS.name: []})
    with pytest.raises(ProofError, match="token 2 is 9, and 8 in the reference") as caught:
        replay_answers(stored(tmp_path), other)
    assert "org/name" in caught.value.message and "transformers 4.57.6" in caught.value.message
    assert "(1 more case differs)" in caught.value.message
    assert caught.value.details["cases"] == [WORDS.name, LABELS.name]


@pytest.mark.parametrize(("case", "library"), [(WORDS, "transformers 4.57.6"), (LABELS, "transformers 5.23.0")])
def test_an_error_names_the_library_that_gave_the_answer(case: AnswerCase, library: str) -> None:
    versions = {"transformers (tokenizer)": "4.57.6", "transformers": "5.23.0"}
    found = differs("org/name", [Difference(case, "other")], versions, then="nothing was stored")
    assert f"differ from those of {library} in {case.name}" in found.message


def test_the_replay_of_answers_that_differed_from_the_beginning_only_measures(tmp_path: Path) -> None:
    found = replay_answers(stored(tmp_path, "failed"), Answers({WORDS.name: tokens([1])}))
    assert len(found.differences) == 1


def test_a_variant_without_cases_has_nothing_to_replay(tmp_path: Path) -> None:
    model = stored(tmp_path)
    (tmp_path / FOLDER / "answers.json").unlink()
    assert replay_answers(model, Answers()) == Comparison()


def found_object(label: str = "cat", score: float = 0.9, left: int = 10) -> dict[str, Any]:
    box = {"xmin": left, "ymin": 2, "xmax": 30, "ymax": 40}
    return {"score": score, "label": label, "box": box, "mask": np.tri(50, dtype=bool)}


OBJECTS = AnswerCase("call/objects", CALL, np.zeros((4, 4, 3), np.uint8), [found_object(), found_object("dog", 0.5)])


@pytest.mark.parametrize(
    "answer",
    [
        [found_object(left=11), found_object("dog", 0.5)],
        [found_object(score=0.90001), found_object("dog", 0.5)],
    ],
)
def test_boxes_may_differ_by_a_pixel(answer: Any) -> None:
    assert compare_answers([OBJECTS], Answers({"call/objects": answer}), 1e-4).differences == ()


@pytest.mark.parametrize(
    "answer",
    [
        [found_object(left=12), found_object("dog", 0.5)],
        [found_object("dog"), found_object("dog", 0.5)],
        [found_object(), {**found_object("dog", 0.5), "mask": np.eye(50, dtype=bool)}],
        [found_object()],
    ],
)
def test_another_box_label_or_mask_differs(answer: Any) -> None:
    (difference,) = compare_answers([OBJECTS], Answers({"call/objects": answer}), 1e-4).differences
    assert "in the reference" in str(difference) or "mask" in str(difference)


def test_pictures_and_timestamps_have_bounds_of_their_own() -> None:
    picture = np.full((3, 3), 100, np.uint8)
    depth = AnswerCase("call/depth", CALL, picture, {"depth": picture})
    spoken = {"text": "a", "chunks": [{"text": "a", "timestamp": [0.0, None]}, {"text": "b", "timestamp": [1.0, 2.0]}]}
    speech = AnswerCase("call/speech", CALL, "x", spoken)
    close = {"text": "a", "chunks": [spoken["chunks"][0], {"text": "b", "timestamp": (1.02, 2.0)}]}  # type: ignore[dict-item]
    far = {"text": "a", "chunks": [spoken["chunks"][0], {"text": "b", "timestamp": (1.2, 2.0)}]}  # type: ignore[dict-item]
    near = Answers({"call/depth": {"depth": picture + 1}, "call/speech": close})
    assert compare_answers([depth, speech], near, 1e-4).differences == ()
    other = Answers({"call/depth": {"depth": picture + 2}, "call/speech": far})
    assert len(compare_answers([depth, speech], other, 1e-4).differences) == 2


def test_a_ranking_of_a_thousand_labels_is_compared_by_the_names_of_labels() -> None:
    """Every pair of labels would take two minutes."""
    ranking = ranked(*((f"label {number}", 1 / (1 + number)) for number in range(1000)))
    case = AnswerCase("call/labels", CALL, "a text", ranking)
    assert not message(case, ranking)
    exchanged = [{**ranking[0], "label": "label 999"}, *ranking[1:-1], {**ranking[-1], "label": "label 0"}]
    assert "label 999" in message(case, exchanged)
