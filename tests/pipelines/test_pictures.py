"""Pipelines of pictures on graphs of a few nodes: options, shapes, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpux import pipeline
from gpux.errors import GpuxError, InputError, UnsupportedError, UnsupportedTaskError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import Pipeline
from gpux.pipelines.registry import pipeline_of
from tests.pipelines.picture_models import captions, classifier, compared, features, plain, same_picture
from tests.zoo_models import ZooModels

RED, GREEN = plain(red=255), plain(green=255)


def scores(answer: list[dict[str, Any]]) -> dict[str, float]:
    return {entry["label"]: pytest.approx(entry["score"], abs=1e-6) for entry in answer}


# -- image-classification ----------------------------------------------------------------------------------------------


def test_labels_come_best_first_with_scores_that_add_up_to_one(tmp_path: Path) -> None:
    with pipeline("image-classification", classifier(tmp_path)) as classify:
        answer = classify(RED)
        expected = np.exp([4, 0, 0.5]) / np.exp([4, 0, 0.5]).sum()
        assert [entry["label"] for entry in answer] == ["red", "grey", "green"]
        assert scores(answer) == dict(zip(("red", "green", "grey"), expected, strict=True))
        assert [entry["label"] for entry in classify(RED, top_k=1)] == ["red"]
        assert [found[0]["label"] for found in classify([RED, GREEN], batch_size=1)] == ["red", "green"]
        assert [found[0]["label"] for found in classify(iter([GREEN, RED]))] == ["green", "red"]
        assert classify([]) == []


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        ({"problem_type": "multi_label_classification"}, {}, 1 / (1 + np.exp(-4))),
        ({"problem_type": "single_label_classification"}, {}, np.exp(4) / np.exp([4, 0, 0.5]).sum()),
        ({"problem_type": "regression"}, {}, np.exp(4) / np.exp([4, 0, 0.5]).sum()),  # as transformers has it
        ({}, {"function_to_apply": "sigmoid"}, 1 / (1 + np.exp(-4))),
        ({}, {"function_to_apply": "none"}, 4.0),
    ],
)
def test_the_function_from_logits_to_scores(tmp_path: Path, config: Any, options: Any, expected: float) -> None:
    with pipeline("image-classification", classifier(tmp_path, **config)) as classify:
        assert classify(RED, **options)[0]["score"] == pytest.approx(expected, abs=1e-6)


def test_labels_without_names_are_numbered(tmp_path: Path) -> None:
    with pipeline("image-classification", classifier(tmp_path, id2label={"0": "red", "2": "grey"})) as classify:
        assert [entry["label"] for entry in classify(GREEN)] == ["LABEL_1", "grey", "red"]


def test_another_number_of_labels_than_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="gives 3 scores"):
        pipeline("image-classification", classifier(tmp_path, id2label={"0": "a", "1": "b"}))


def test_a_graph_with_a_fixed_batch_answers_any_number_of_pictures(tmp_path: Path) -> None:
    with pipeline("image-classification", classifier(tmp_path, batch=2)) as classify:
        assert [found[0]["label"] for found in classify([RED, GREEN, RED])] == ["red", "green", "red"]


def test_a_picture_may_be_a_path_bytes_an_image_or_an_array(tmp_path: Path) -> None:
    file = tmp_path / "red.png"
    Image.fromarray(RED).save(file)
    with pipeline("image-classification", classifier(tmp_path / "model")) as classify:
        forms: list[Any] = [file, str(file), file.read_bytes(), Image.open(file), RED]
        assert [found[0]["label"] for found in classify(forms)] == ["red"] * 5


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (5, "int"),
        ([RED, 5], "1"),
        ([RED, GREEN, "missing.png"], "missing.png"),
        ({"image": 5}, "dict"),
        (b"no picture", "picture"),
        (np.zeros((4, 4, 7), np.uint8), "7"),
    ],
)
def test_what_is_no_picture_is_refused_by_its_place(tmp_path: Path, inputs: Any, said: str) -> None:
    with pipeline("image-classification", classifier(tmp_path)) as classify:
        with pytest.raises(InputError) as caught:
            classify(inputs)
        assert said in str(caught.value)
        if isinstance(inputs, list):
            assert caught.value.details["index"] == len(inputs) - 1


def test_an_invalid_picture_does_not_lose_the_others(tmp_path: Path) -> None:
    with pipeline("image-classification", classifier(tmp_path)) as classify:
        found = dict(classify.iter_answers([RED, b"no picture", GREEN], on_error="keep"))
    assert found[0][0]["label"] == "red"
    assert isinstance(found[1], GpuxError)
    assert found[2][0]["label"] == "green"


@pytest.mark.parametrize("options", [{"top_k": 0}, {"function_to_apply": "tanh"}, {"topk": 1}])
def test_invalid_options_are_refused(tmp_path: Path, options: Any) -> None:
    with pipeline("image-classification", classifier(tmp_path)) as classify, pytest.raises(UsageError):
        classify(RED, **options)


# -- image-feature-extraction ------------------------------------------------------------------------------------------


def test_vectors_have_the_shapes_of_transformers(tmp_path: Path) -> None:
    with pipeline("image-feature-extraction", features(tmp_path)) as extract:
        found = np.array(extract(RED))
        assert found.shape == (1, 16, 3)
        assert found[0, 0].tolist() == [1, 0, 0]
        assert extract(GREEN, pool=True) == [[0, 1, 0]]
        arrays = extract([RED, GREEN], return_arrays=True)
        assert [(one.shape, one.dtype) for one in arrays] == [((1, 16, 3), np.dtype("float32"))] * 2
        (answer,) = extract.answers([RED])
        assert "1 × 16 × 3" in extract.render(answer)[0].text
        json.dumps(answer)


def test_a_graph_without_a_pooled_output_says_so(tmp_path: Path) -> None:
    extract = pipeline("image-feature-extraction", features(tmp_path, pooled=False))
    with extract, pytest.raises(UnsupportedError, match="no pooled output"):
        extract(RED, pool=True)


def test_a_model_of_pictures_opens_as_one_of_pictures(tmp_path: Path) -> None:
    model = features(tmp_path)
    assert pipeline_of(model).task == "image-feature-extraction"
    with pipeline(model=model) as extract:
        assert extract.task == "image-feature-extraction"
    with pytest.raises(UnsupportedTaskError) as caught:
        pipeline("feature-extraction", model)
    assert "image-feature-extraction" in str(caught.value.hint)


# -- zero-shot-image-classification ------------------------------------------------------------------------------------


def test_labels_of_the_call_are_compared_with_the_picture(tmp_path: Path) -> None:
    with pipeline("zero-shot-image-classification", compared(tmp_path)) as classify:
        answer = classify(RED, candidate_labels=["green", "red"])
        assert [entry["label"] for entry in answer] == ["red", "green"]
        assert scores(answer) == {"red": 1 / (1 + np.exp(-10)), "green": 1 / (1 + np.exp(10))}
        assert classify(RED, "green, red") == answer
        several = classify([RED, GREEN], candidate_labels=["green", "red"])
        assert [found[0]["label"] for found in several] == ["red", "green"]
        twice = classify(RED, ["red", "green"], hypothesis_template="red {}")
        assert scores(twice)["red"] == 1 / (1 + np.exp(-10))


def test_siglip_scores_each_label_by_itself(tmp_path: Path) -> None:
    with pipeline("zero-shot-image-classification", compared(tmp_path, "siglip"), candidate_labels=["red"]) as classify:
        assert scores(classify(RED)) == {"red": 1 / (1 + np.exp(-10))}
        assert scores(classify(GREEN)) == {"red": 0.5}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "no labels"),
        ({"candidate_labels": []}, "no labels"),
        ({"candidate_labels": " , "}, "no labels"),
        ({"candidate_labels": ["red", 5]}, "5"),
        ({"candidate_labels": ["red"], "hypothesis_template": "a photo"}, "no place for a label"),
        ({"candidate_labels": ["green", "red " * 40]}, "48 tokens, and the limit is 16"),
    ],
)
def test_labels_and_templates_are_checked(tmp_path: Path, options: Any, said: str) -> None:
    classify = pipeline("zero-shot-image-classification", compared(tmp_path))
    with classify, pytest.raises(UsageError, match=said):
        classify(RED, **options)


# -- image-to-text -----------------------------------------------------------------------------------------------------


def test_captions_by_a_graph_without_a_cache(tmp_path: Path) -> None:
    with pipeline("image-to-text", captions(tmp_path)) as read:
        assert read(RED) == [{"generated_text": "a photo of red"}]
        assert read([RED, GREEN]) == [[{"generated_text": "a photo of red"}], [{"generated_text": "a photo of green"}]]
        assert read(RED, max_new_tokens=2) == [{"generated_text": "a photo"}]
        assert read(RED, generate_kwargs={"max_new_tokens": 2}) == [{"generated_text": "a photo"}]
        assert read(GREEN, prompt="this is green") == [{"generated_text": "this is green"}]
        assert read(GREEN, prompt="photo") == [{"generated_text": "photo of green"}]
        assert read(RED, num_beams=2) == [{"generated_text": "a photo of red"}]
        with read.stream(GREEN) as stream:
            assert "".join(stream) == "a photo of green"
            assert stream.result.finish_reason == "eos"


@pytest.mark.parametrize(
    "options", [{"prompt": 5}, {"generate_kwargs": {"beams": 2}}, {"generate_kwargs": {"top_k": 1}, "top_k": 2}]
)
def test_invalid_options_of_captions_are_refused(tmp_path: Path, options: Any) -> None:
    with pipeline("image-to-text", captions(tmp_path)) as read, pytest.raises(UsageError):
        read(RED, **options)


# -- image-to-image ----------------------------------------------------------------------------------------------------


def test_a_picture_is_made_from_each_picture(tmp_path: Path) -> None:
    with pipeline("image-to-image", same_picture(tmp_path)) as enlarge:
        answer = enlarge(plain(red=100, green=255))
        assert answer.mode == "RGB"
        assert np.asarray(answer)[0, 0].tolist() == [200, 255, 0]
        assert [one.size for one in enlarge([RED, GREEN])] == [(4, 4), (4, 4)]
        (shown,) = enlarge.answers([RED])
        assert "4 x 4" in enlarge.render(shown)[0].text
        assert enlarge.picture(RED, answer) is answer


# -- all ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [classifier, features, compared, captions, same_picture])
def test_a_repository_without_an_image_processor_is_refused(
    tmp_path: Path, build: Callable[[Path], StoredModel]
) -> None:
    model = build(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    kind: type[Pipeline] = pipeline_of(model)
    with pytest.raises(UnsupportedError, match="preprocessor_config"):
        kind(model)


@pytest.mark.toolchain
@pytest.mark.parametrize(
    ("model_type", "task"), [("siglip2", "zero-shot-image-classification"), ("blip", "image-to-text")]
)
def test_pulled_models_answer_as_transformers(zoo_models: ZooModels, model_type: str, task: str) -> None:
    answers = zoo_models.pull(model_type, task).manifest.proof.answers
    assert answers is not None
    assert (answers.status, answers.reason) == ("proven", "")
