"""Boxes, segments, depths and points from the outputs of a model, as transformers reads them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gpux.convert.answer_case import AnswerCase, read_answers
from gpux.errors import InputError, UnsupportedError, UsageError
from gpux.pipelines.answerer import PipelineAnswerer
from gpux.pipelines.base import Pipeline
from gpux.pipelines.registry import pipeline_class
from gpux.pipelines.vision.interpolation import bands, bilinear
from gpux.proof.answers import compare_answers
from tests.pipelines.located.cases import CASES, SIZE, Case, questions
from tests.pipelines.located.models import model_of

Open = Callable[..., Pipeline]
ANSWERS = read_answers(Path(__file__).parent)
assert ANSWERS is not None
EXPECTED = {case.name: case for case in ANSWERS.cases}
BY_NAME = {case.name: case for case in CASES}


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the pipeline of a case; `inputs` has the shapes of the graph's inputs, `outputs` its values by name."""
    pipes: list[Pipeline] = []

    def make(case: Case | str, *, inputs: dict[str, Any] | None = None, **changed: Any) -> Pipeline:
        case = BY_NAME[case] if isinstance(case, str) else case
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        pipe = pipeline_class(case.task)(model_of(case, folder, inputs, **changed))
        pipes.append(pipe)
        return pipe

    yield make
    for pipe in pipes:
        pipe.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answers_are_those_of_transformers(opened: Open, picture: NDArray[np.uint8], case: Case) -> None:
    pipe = opened(case)
    asked = [
        AnswerCase(name, EXPECTED[name].kind, picture, EXPECTED[name].expected, options)
        for name, other, options in questions()
        if other is case
    ]
    assert asked
    found = compare_answers(asked, PipelineAnswerer(pipe), 1e-5)
    assert len(found.compared) == len(asked)
    assert not found.differences, found.differences[0]


def test_segments_have_the_order_of_transformers(opened: Open, picture: NDArray[np.uint8]) -> None:
    for name, case, options in questions():
        if case.task == "image-segmentation":
            labels = [entry["label"] for entry in opened(case)(picture, **options)]
            assert labels == [entry["label"] for entry in EXPECTED[name].expected], name


def test_bands_of_a_large_picture_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = np.random.default_rng(0).normal(0, 3, (4, 7, 9)).astype(np.float32)
    monkeypatch.setattr("gpux.pipelines.vision.interpolation._BAND", 4 * 50 * 3)
    parts = list(bands(maps, (40, 50)))
    assert len(parts) == 14
    np.testing.assert_array_equal(np.concatenate([band for _, band in parts], axis=1), bilinear(maps, (40, 50)))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("object-detection/DetrImageProcessor", {"threshold": 1.5}),
        ("object-detection/DetrImageProcessor", {"threshold": float("nan")}),
        ("object-detection/DetrImageProcessor", {"threshold": "high"}),
        ("image-segmentation/SegformerImageProcessor", {"subtask": "panoptic"}),
        ("image-segmentation/DetrImageProcessor", {"subtask": "both"}),
        ("image-segmentation/DetrImageProcessor", {"mask_threshold": -1}),
        ("image-segmentation/DetrImageProcessor", {"overlap": 0.5}),
        ("keypoint-detection/VitPoseImageProcessor", {"kernel_size": 4}),
        ("keypoint-detection/VitPoseImageProcessor", {"threshold": 2}),
    ],
)
def test_an_invalid_option_is_refused_by_its_name(
    opened: Open, picture: NDArray[np.uint8], name: str, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        opened(name)(picture, **options)


def test_the_hint_of_a_subtask_helps(opened: Open, picture: NDArray[np.uint8]) -> None:
    pipe = opened("image-segmentation/SegformerImageProcessor")
    with pytest.raises(UsageError) as caught:
        pipe(picture, subtask="instance")
    assert "subtask='semantic'" in str(caught.value.hint)
    assert pipe(picture, subtask="semantic") == pipe(picture)


@pytest.mark.parametrize(
    "boxes", [5, "all", [[1, 2, 0, 4]], [[1, 2, 3]], ["box"], [{"xmin": 1}], [[1, 2, float("inf"), 3]]]
)
def test_an_invalid_box_is_refused(opened: Open, picture: NDArray[np.uint8], boxes: Any) -> None:
    with pytest.raises(InputError, match="picture 1") as caught:
        opened("keypoint-detection/VitPoseImageProcessor")([picture, {"image": picture, "boxes": boxes}])
    assert caught.value.details["index"] == 1


def test_points_of_boxes_as_object_detection_gives_them(opened: Open, picture: NDArray[np.uint8]) -> None:
    pipe = opened("keypoint-detection/VitPoseImageProcessor")
    corners = {"xmin": 10, "ymin": 5, "xmax": 50, "ymax": 55}
    assert pipe(picture, boxes=[corners]) == pipe({"image": picture, "boxes": [[10, 5, 40, 50]]})
    assert pipe(picture, boxes=[]) == []


def test_a_model_that_the_task_cannot_read_is_refused_when_it_is_opened(opened: Open) -> None:
    detr = BY_NAME["object-detection/DetrImageProcessor"]
    with pytest.raises(UnsupportedError, match="ViTImageProcessor"):
        opened("object-detection/RTDetrImageProcessor", processor="ViTImageProcessor")
    with pytest.raises(UnsupportedError, match="needs pred_boxes"):
        opened(detr, outputs={"logits": detr.outputs()["logits"]})
    texts = {"pixel_values": [1, 3, "height", "width"], "input_ids": [1, "tokens"]}
    with pytest.raises(UnsupportedError, match="reads input_ids too"):
        opened("image-segmentation/SegformerImageProcessor", inputs=texts)
    with pytest.raises(UnsupportedError, match="prompt_encoder_mask_decoder and vision_encoder"):
        opened(Case("mask-generation", "SamImageProcessor", 0), outputs={"iou_scores": np.zeros(1, np.float32)})


def test_a_picture_of_a_size_that_the_graph_does_not_read_is_named(opened: Open, picture: NDArray[np.uint8]) -> None:
    pipe = opened("object-detection/DetrImageProcessor", inputs={"pixel_values": ["batch", 3, 32, 32]})
    assert pipe(picture[:60, :60])
    with pytest.raises(InputError, match="picture 1 is prepared as 48 x 32 pixels") as caught:
        pipe([picture[:60, :60], picture[:60, :90]])
    assert (caught.value.details["index"], caught.value.details["graph_size"]) == (1, [32, 32])
    assert "Cut or pad" in str(caught.value.hint)
    other = opened("object-detection/DetrImageProcessor", inputs={"pixel_values": ["batch", 3, 24, 24]})
    with pytest.raises(InputError, match="reads 24 x 24 only") as caught:
        other(picture[:60, :60])
    assert "gpux.Session" in str(caught.value.hint)
    case = AnswerCase("call/wide", "call", picture, [])
    found = compare_answers([case], PipelineAnswerer(pipe), 1e-5)
    assert not found.differences
    assert not found.compared
    assert "reads 32 x 32 only" in found.left


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answers_can_be_drawn_written_as_json_and_shown(opened: Open, picture: NDArray[np.uint8], case: Case) -> None:
    pipe = opened(case)
    (found,) = pipe.run([picture], {} if case.task != "object-detection" else {"threshold": 0.0})
    drawn = pipe.picture(picture, found)
    assert drawn.size == (SIZE[1], SIZE[0])
    written = pipe.to_json(found)
    assert json.loads(json.dumps(written)) == written
    assert len(pipe.render(written)) == len(pipe.render(found))
    if case.task == "image-segmentation":
        for one, other in zip(found, written, strict=True):
            decoded = Image.open(io.BytesIO(base64.b64decode(other["mask"])))
            np.testing.assert_array_equal(np.asarray(decoded), np.asarray(one["mask"]))


def test_a_drawn_label_stays_within_a_small_picture(opened: Open) -> None:
    pipe = opened("object-detection/DetrImageProcessor")
    tiny = np.zeros((1, 1, 3), np.uint8)
    boxes = [{"score": 0.5, "label": "a long label", "box": {"xmin": -3, "ymin": -3, "xmax": 9, "ymax": 9}}]
    assert pipe.picture(tiny, boxes).size == (1, 1)
    assert pipe.picture(tiny, []).size == (1, 1)
