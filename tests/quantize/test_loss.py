"""Measures of loss on hand-made outputs, and the evaluation inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux.convert.reference_case import Call, ReferenceCase, write_case
from gpux.errors import CancelledError, ProofError
from gpux.model.precisions import QUANTIZED, find_precision
from gpux.model.variant import CallSpec, GraphSpec, Manifest, Proof, ProofCase, StoredModel, TensorSpec
from gpux.quantize.evaluation import EvaluationInput, evaluation_inputs, sentences
from gpux.quantize.loss import measure_loss, store_outputs, violations
from gpux.system.cancel import CancelToken

Arrays = Mapping[str, Any]


def variant(folder: Path, graphs: tuple[GraphSpec, ...], cases: tuple[ProofCase, ...] = ()) -> StoredModel:
    manifest = Manifest(
        "local", "tiny", "0" * 40, "t", "fp32", "optimum", graphs, (), CallSpec(), Proof("proven", cases), {}
    )
    return StoredModel(folder, manifest)


@pytest.fixture
def bare(tmp_path: Path) -> StoredModel:
    return variant(tmp_path, (GraphSpec("model", "model.onnx", (TensorSpec("x", "float32", (1, 3)),), ()),))


class FixedOutputs:
    """Runs a "graph" with given outputs."""

    def __init__(self, **outputs: Any) -> None:
        self.outputs = {name: np.asarray(value, np.float32) for name, value in outputs.items()}

    def __call__(self, graph: str, inputs: Arrays) -> Arrays:
        return self.outputs


def loss(
    model: StoredModel, before: FixedOutputs, after: FixedOutputs, ids: Any = None, **inputs: Any
) -> dict[str, float]:
    call = Call("model", {name: np.asarray(value) for name, value in inputs.items()}, {})
    evaluation = (EvaluationInput(ReferenceCase("one", (call,)), None if ids is None else np.asarray(ids)),)
    store_outputs(evaluation, before, model.path / "outputs", CancelToken())
    return measure_loss(model, evaluation, after, model.path / "outputs", CancelToken())


def test_equal_outputs_have_no_loss(bare: StoredModel) -> None:
    found = loss(
        bare, FixedOutputs(logits=[[1, 2, 3]], vector=[[1, 0]]), FixedOutputs(logits=[[1, 2, 3]], vector=[[1, 0]])
    )

    assert found == pytest.approx(
        {"cosine_mean": 1, "cosine_min": 1, "kl": 0, "logits_cosine": 1, "top1": 1}, abs=1e-12
    )
    assert all(not violations(found, precision) for precision in QUANTIZED)


def test_divergence_is_in_nats(bare: StoredModel) -> None:
    found = loss(bare, FixedOutputs(logits=np.log([[0.5, 0.5]])), FixedOutputs(logits=np.log([[0.25, 0.75]])))

    assert found["kl"] == pytest.approx(0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75), rel=1e-5)


def test_logits_cosine_sees_what_kl_misses_between_nearly_equal_classes(bare: StoredModel) -> None:
    noise = np.random.default_rng(0).standard_normal((2, 1, 9, 50)) / 100

    found = loss(bare, FixedOutputs(logits=noise[0]), FixedOutputs(logits=noise[1]))

    assert found["kl"] < 0.001
    assert any("logits_cosine" in reason for reason in violations(found, "int4"))


def test_perplexity_is_of_the_next_tokens(bare: StoredModel) -> None:
    before = np.log(np.full((1, 3, 2), 0.5))
    after = np.log(np.array([[[0.25, 0.75], [0.75, 0.25], [0.9, 0.1]]]))
    past = np.zeros((1, 1, 0, 1))

    found = loss(bare, FixedOutputs(logits=before), FixedOutputs(logits=after), ids=[0, 1, 0], past_key=past)

    assert found["perplexity_ratio"] == pytest.approx(0.5 / 0.75, rel=1e-5)


def test_no_perplexity_without_a_cache(bare: StoredModel) -> None:
    logits = FixedOutputs(logits=np.zeros((1, 2, 3)))

    assert "perplexity_ratio" not in loss(bare, logits, logits, ids=[0, 1])


def test_token_vectors_are_pooled_by_their_mean(bare: StoredModel) -> None:
    found = loss(
        bare,
        FixedOutputs(last_hidden_state=[[[1, 0], [1, 2]]]),
        FixedOutputs(last_hidden_state=[[[1, 2], [1, 0]]]),
        ids=[1, 2],
    )

    assert found["cosine_min"] == pytest.approx(1)


def test_token_vectors_are_pooled_as_in_sentence_transformers_files(bare: StoredModel) -> None:
    modules = [{"idx": 0, "type": "sentence_transformers.models.Transformer", "path": ""}]
    modules.append({"idx": 1, "type": "sentence_transformers.models.Pooling", "path": "1_Pooling"})
    (bare.path / "modules.json").write_text(json.dumps(modules))
    (bare.path / "1_Pooling").mkdir()
    (bare.path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))

    found = loss(
        bare,
        FixedOutputs(last_hidden_state=[[[1, 0], [1, 2]]]),
        FixedOutputs(last_hidden_state=[[[0, 1], [2, 1]]]),
        ids=[1, 2],
    )

    assert found["cosine_min"] == pytest.approx(0)


def test_a_single_number_has_a_relative_error(bare: StoredModel) -> None:
    assert loss(bare, FixedOutputs(logits=[[4.0]]), FixedOutputs(logits=[[3.0]])) == {"relative_error": 0.25}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_overflow_is_refused(bare: StoredModel, bad: float) -> None:
    with pytest.raises(ProofError, match="overflows"):
        loss(bare, FixedOutputs(logits=[[1, 2]]), FixedOutputs(logits=[[1, bad]]))


def test_a_missing_output_is_refused(bare: StoredModel) -> None:
    with pytest.raises(ProofError, match="shape"):
        loss(bare, FixedOutputs(logits=[[1, 2]]), FixedOutputs(other=[[1, 2]]))


def test_caches_are_not_compared(bare: StoredModel) -> None:
    with pytest.raises(ProofError, match="no outputs"):
        loss(bare, FixedOutputs(**{"present.0.key": [[1, 2]]}), FixedOutputs(**{"present.0.key": [[1, 2]]}))


def test_violations_name_measure_value_and_limit() -> None:
    assert violations({"cosine_mean": 0.5, "top1": 0.0}, "int8") == [
        f"cosine_mean is 0.5, at least {find_precision('int8').loss_limits['cosine_mean'].value:g} is allowed"
    ]
    assert violations({"kl": float("nan")}, "fp16")


def test_a_cancelled_comparison_ends(bare: StoredModel) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        store_outputs((EvaluationInput(ReferenceCase("one", ())),), FixedOutputs(), bare.path, token)


def test_sentences_are_in_several_languages_and_code() -> None:
    texts = sentences()

    assert len(texts) == len(set(texts)) == 40
    assert any("def " in text and "\n" in text for text in texts)
    assert any("а" in text for text in texts) and any("の" in text for text in texts)


def test_a_variant_without_cases_is_refused(bare: StoredModel) -> None:
    with pytest.raises(ProofError, match="without proof cases"):
        evaluation_inputs(bare)


def test_without_a_tokenizer_the_kept_cases_are_the_inputs(tmp_path: Path) -> None:
    case = ReferenceCase("batch", (Call("model", {"pixel_values": np.ones((1, 3))}, {"logits": np.ones((1, 2))}),))
    write_case(case, tmp_path / "proof" / "batch.npz")
    spec = GraphSpec("model", "model.onnx", (TensorSpec("pixel_values", "float32", (1, 3)),), ())

    (item,) = evaluation_inputs(variant(tmp_path, (spec,), (ProofCase("batch", {}, 0.0, 1.0, True),)))

    assert item.ids is None and item.case.name == "batch"
