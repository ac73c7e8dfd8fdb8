"""The proof of answers: the pipeline of a staged variant compared with reference answers; no toolchain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux import Settings, Store, errors, pipeline, pull_model
from gpux.convert.answer_case import CALL, TOKENS, AnswerCase, AnswerSet, read_answers
from gpux.model.variant import AnswerProof
from gpux.proof.cases import FOLDER
from gpux.system.cancel import CancelToken
from gpux.system.progress import Event, StageFinished, StageStarted
from tests.models.bert import bert_repository
from tests.pull.answer_cases import CALLS, MASKED, VERSIONS, Reference, edited
from tests.pull.conftest import Make


@pytest.mark.parametrize("task", list(CALLS))
def test_equal_answers_are_proven_and_kept(
    task: str, stubs: Make, settings: Settings, reference: Reference, tmp_path: Path
) -> None:
    answers = reference(task)
    stubs(only={"answers": answers})
    heard: list[Event] = []

    model = pull_model(bert_repository(tmp_path / "source", task), settings=settings, progress=heard.append, task=task)

    found = model.manifest.proof.answers
    assert found is not None
    assert (found.status, found.cases, found.reference, found.reason) == ("proven", len(answers.cases), VERSIONS, "")
    assert found.max_abs_diff == pytest.approx(0, abs=1e-5)
    assert (model.manifest.proof.status, model.manifest.evidence) == ("proven", "answers proven")
    kept = read_answers(model.path / FOLDER)
    assert kept is not None
    assert [case.name for case in kept.cases] == [case.name for case in answers.cases]
    assert f"{FOLDER}/answers.json" in {file.path for file in model.manifest.files}
    ends = [event.message for event in heard if isinstance(event, StageFinished)]
    assert any(message.startswith(f"answers proven: {len(answers.cases)} cases") for message in ends)


WRONG_TOKENIZERS: dict[str, tuple[dict[str, Any], str]] = {
    "normalizer": ({"normalizer": None}, "tokens/plain"),  # keeps the case
    "post_processor": ({"post_processor": None}, "tokens/plain"),  # adds no special tokens
    "pre_tokenizer": ({"pre_tokenizer": None}, "tokens/plain"),  # splits no words
}


@pytest.mark.parametrize("what", list(WRONG_TOKENIZERS))
def test_a_wrong_tokenizer_is_refused_with_the_first_id_that_differs(
    what: str, stubs: Make, settings: Settings, reference: Reference, folder: Path
) -> None:
    changes, name = WRONG_TOKENIZERS[what]
    stubs(only={"answers": reference("fill-mask"), "tokenizer": edited(folder, **changes)})

    with pytest.raises(errors.ProofError) as caught:
        pull_model(folder, settings=settings)

    assert Store(settings.store).models() == []
    message = caught.value.message
    assert f"{name}, input" in message and "token " in message and "in the reference" in message
    assert "transformers 4.57.6" in message and "nothing was stored" in message
    assert str(folder) in message
    assert "--allow-inexact" in str(caught.value.hint)


def test_allowed_answers_that_differ_are_stored_as_inexact(
    stubs: Make, settings: Settings, reference: Reference, folder: Path
) -> None:
    stubs(only={"answers": reference("fill-mask"), "tokenizer": edited(folder, normalizer=None)})

    model = pull_model(folder, settings=settings, allow_inexact=True)

    found = model.manifest.proof.answers
    assert found is not None
    assert (model.manifest.proof.status, found.status, model.manifest.evidence) == ("inexact", "failed", "inexact")
    assert "tokens/plain" in found.reason and "token 1" in found.reason
    assert all(case.passed for case in model.manifest.proof.cases)


def test_a_wrong_pooling_is_refused(stubs: Make, settings: Settings, reference: Reference, tmp_path: Path) -> None:
    answers = reference("feature-extraction", sentence_transformers={"pooling": "mean"})
    folder = bert_repository(tmp_path / "source", "feature-extraction", sentence_transformers={"pooling": "cls"})
    stubs(only={"answers": answers})

    with pytest.raises(errors.ProofError, match=r"encode/unequal, input .*the answer at \[\d+, \d+\] is"):
        pull_model(folder, settings=settings)

    assert Store(settings.store).models() == []


UNOPENABLE: dict[str, Callable[[Path], Any]] = {
    "no-tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "damaged-tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{}"),
}


@pytest.mark.parametrize("what", list(UNOPENABLE))
@pytest.mark.parametrize("with_answers", [True, False])
def test_a_model_that_its_pipeline_cannot_open_is_refused(
    what: str, with_answers: bool, stubs: Make, settings: Settings, reference: Reference, folder: Path
) -> None:
    UNOPENABLE[what](folder)
    stubs(only={"answers": reference("fill-mask")} if with_answers else {})

    with pytest.raises(errors.GpuxError, match=r"the pipeline fill-mask of .* cannot be opened: ") as caught:
        pull_model(folder, settings=settings)

    assert str(folder) in caught.value.message and "staging" not in caught.value.message
    assert "nothing was stored" in caught.value.message
    assert "gpux verify" not in str(caught.value.hint)
    assert Store(settings.store).models() == []

    model = pull_model(folder, settings=settings, allow_inexact=True)  # as the hint says
    assert model.manifest.proof.status == "inexact"
    assert model.manifest.proof.answers is not None
    assert "cannot be opened" in model.manifest.proof.answers.reason


def test_where_the_reference_failed_too_the_proof_of_the_graphs_stands(
    stubs: Make, settings: Settings, folder: Path
) -> None:
    (folder / "tokenizer.json").unlink()
    failures = {TOKENS: "ValueError: no tokenizer", CALL: "ValueError: no tokenizer"}
    stubs(only={"answers": AnswerSet((), VERSIONS, failures)})

    model = pull_model(folder, settings=settings)

    found = model.manifest.proof.answers
    assert found is not None
    assert (model.manifest.proof.status, found.status) == ("proven", "not compared")
    assert model.manifest.evidence == "graph proven"
    assert "ValueError: no tokenizer" in found.reason and "has no tokenizer.json" in found.reason


def test_an_error_of_a_pipeline_that_is_not_typed_is_refused_too(
    stubs: Make, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise TypeError("unhashable")

    monkeypatch.setattr("gpux.pipelines.text.fill_mask._vocabulary", fail)
    stubs(only={})

    with pytest.raises(errors.ProofError, match="cannot be opened: TypeError: unhashable"):
        pull_model(folder, settings=settings)


def test_a_task_without_a_pipeline_keeps_the_proof_of_its_graphs(
    stubs: Make, settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpux.pull.answers.pipelines", dict)
    stubs(only={})
    heard: list[Event] = []

    model = pull_model(folder, settings=settings, progress=heard.append)

    reason = "gpux has no pipeline for fill-mask yet"
    assert model.manifest.proof.answers == AnswerProof("not compared", reason=reason)
    assert model.manifest.evidence == "graph proven"
    assert any(isinstance(event, StageFinished) and reason in event.message for event in heard)


def test_a_converter_without_answers_has_its_pipeline_opened(stubs: Make, settings: Settings, folder: Path) -> None:
    stubs(only={})
    model = pull_model(folder, settings=settings)
    assert model.manifest.proof.answers is not None
    assert model.manifest.proof.answers.status == "not compared"
    assert "no reference answers" in model.manifest.proof.answers.reason


def test_longer_inputs_than_a_proven_limit_are_not_compared(
    stubs: Make, settings: Settings, reference: Reference, folder: Path
) -> None:
    answers = reference("fill-mask")
    words = "the fox and the dog " * 6 + MASKED
    long = AnswerCase("call/long", CALL, words, [{"score": 1.0, "token": 1, "token_str": "x", "sequence": "x"}])
    stubs(only={"off": 1.0, "wrong_from": 21, "answers": replace(answers, cases=(*answers.cases, long))})

    model = pull_model(folder, settings=settings)

    found = model.manifest.proof.answers
    assert model.manifest.proof.limit is not None and found is not None
    assert (found.status, found.cases) == ("proven", len(answers.cases))
    assert "call/long is longer than 20 tokens" in found.reason


def test_prove_compares_the_answers_of_shipped_onnx(
    stubs: Make, settings: Settings, reference: Reference, tmp_path: Path
) -> None:
    folder = bert_repository(tmp_path / "source", "fill-mask", onnx=True)
    stubs(optimum={"answers": reference("fill-mask"), "proves_others": True})

    model = pull_model(folder, settings=settings, prove=True)

    assert (model.manifest.recipe, model.manifest.evidence) == ("shipped", "answers proven")


def test_prove_refuses_shipped_onnx_with_a_wrong_tokenizer(
    stubs: Make, settings: Settings, reference: Reference, tmp_path: Path
) -> None:
    folder = bert_repository(tmp_path / "source", "fill-mask", onnx=True)
    (folder / "tokenizer.json").write_text(edited(folder, normalizer=None))
    stubs(optimum={"answers": reference("fill-mask"), "proves_others": True})

    with pytest.raises(errors.ProofError, match="tokens/plain"):
        pull_model(folder, settings=settings, prove=True)


def test_a_cancelled_proof_of_answers_stores_nothing(
    stubs: Make, settings: Settings, reference: Reference, folder: Path
) -> None:
    stubs(only={"answers": reference("fill-mask")})
    cancel = CancelToken()

    def on_event(event: Event) -> None:
        if isinstance(event, StageStarted) and event.message.startswith("Comparing the answers"):
            cancel.cancel()

    with pytest.raises(errors.CancelledError):
        pull_model(folder, settings=settings, progress=on_event, cancel=cancel)
    assert Store(settings.store).models() == []


def test_the_weights_are_loaded_once(
    stubs: Make, settings: Settings, reference: Reference, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpux.runtime import session

    answers = reference("fill-mask")
    opened: list[Path] = []
    original = session.Session.__init__

    def counting(self: Any, path: Path, **options: Any) -> None:
        opened.append(path)
        original(self, path, **options)

    monkeypatch.setattr(session.Session, "__init__", counting)
    stubs(only={"answers": answers})
    pull_model(folder, settings=settings)
    assert len(opened) == 2  # one by the converter of this test, for its reference


def test_a_stored_variant_answers_as_it_was_proven(
    stubs: Make, settings: Settings, reference: Reference, folder: Path
) -> None:
    answers = reference("fill-mask")
    stubs(only={"answers": answers})
    model = pull_model(folder, settings=settings)
    with pipeline("fill-mask", model=model) as pipe:
        expected = answers.cases[-1].expected
        scores = [entry["score"] for entry in pipe(MASKED, top_k=20)]
        assert np.allclose(scores, [entry["score"] for entry in expected], atol=1e-5)
