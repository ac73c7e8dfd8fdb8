"""Models that the toolchain converts: OWL-ViT with labels of a call, SAM with points, Depth Anything on any size."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray

from gpux.convert.host.pip import interpreter
from gpux.errors import InputError, UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.base import Pipeline
from gpux.pipelines.registry import pipeline_class
from gpux.pull.api import pull_model
from gpux.system.settings import Settings
from tests.pipelines.located import depth_anything
from tests.zoo_models import ZooModels

pytestmark = pytest.mark.toolchain

TASKS = {
    "owlvit__zero-shot-object-detection": "zero-shot-object-detection",
    "sam__feature-extraction": "mask-generation",
}
DEPTHS = "depth-anything"


@pytest.fixture(scope="module")
def models(
    warm_toolchains: Path, zoo_models: ZooModels, shared_folder: Callable[[str], Path]
) -> dict[str, StoredModel]:
    zoo_models.build(*TASKS)
    found = [zoo_models.pull(*name.split("__"), requested=task) for name, task in TASKS.items()]
    found.append(pulled_depths(shared_folder("depth-anything"), warm_toolchains))
    return {model.task: model for model in found}


def pulled_depths(folder: Path, toolchains: Path) -> StoredModel:
    """The variant of a tiny Depth Anything, made once."""
    settings = Settings.from_env(home=folder / "home", toolchains=toolchains, offline=True)
    with FileLock(folder / "lock"):
        if not (folder / "done").exists():
            program = [interpreter(toolchains / "optimum"), depth_anything.__file__, folder / DEPTHS]
            subprocess.run(program, check=True, capture_output=True)
            (folder / "done").touch()
        return pull_model(folder / DEPTHS, settings=settings)


@pytest.fixture
def detect(models: dict[str, StoredModel]) -> Iterator[Pipeline]:
    with pipeline_class("zero-shot-object-detection")(models["zero-shot-object-detection"]) as pipe:
        yield pipe


@pytest.fixture
def cut(models: dict[str, StoredModel]) -> Iterator[Pipeline]:
    with pipeline_class("mask-generation")(models["mask-generation"]) as pipe:
        yield pipe


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (45, 61, 3), dtype=np.uint8)


@pytest.mark.parametrize("task", ["zero-shot-object-detection", "mask-generation", "depth-estimation"])
def test_answers_are_proven(models: dict[str, StoredModel], task: str) -> None:
    proof = models[task].manifest.proof
    assert proof.answers is not None
    assert (proof.status, proof.answers.status) == ("proven", "proven")
    assert proof.answers.cases >= 3


def test_labels_of_several_lengths_are_those_of_each_label(detect: Pipeline, picture: NDArray[np.uint8]) -> None:
    labels = ["cat", "a photo of a remote control", "dog"]
    together = detect(picture, candidate_labels=labels, threshold=0.0)
    alone = [entry for label in labels for entry in detect(picture, candidate_labels=label, threshold=0.0)]
    assert {entry["label"] for entry in together} == set(labels)
    scores = sorted((entry["score"] for entry in alone), reverse=True)
    assert [entry["score"] for entry in together] == pytest.approx(scores, abs=1e-6)
    best = detect(picture, candidate_labels=labels, threshold=0.0, top_k=2)
    assert best == together[:2]
    assert detect({"image": picture, "candidate_labels": labels}, threshold=0.0) == together
    each = detect([picture, picture], candidate_labels=[["cat"], labels], threshold=0.0)
    assert each[1] == together
    assert {entry["label"] for entry in each[0]} == {"cat"}
    assert list(detect((one for one in [picture, picture]), labels, threshold=0.0)) == [together, together]


def test_depths_of_pictures_of_several_proportions(models: dict[str, StoredModel], picture: NDArray[np.uint8]) -> None:
    with pipeline_class("depth-estimation")(models["depth-estimation"]) as measure:
        for image in (picture, picture[:, :30], picture[:20]):
            found = measure(image)
            assert found["predicted_depth"].shape == image.shape[:2]
            assert np.ptp(found["predicted_depth"]) > 0


@pytest.mark.parametrize("labels", [None, [], "", [1], [["cat"], ["dog"]]])
def test_no_labels_are_refused(detect: Pipeline, picture: NDArray[np.uint8], labels: Any) -> None:
    with pytest.raises(UsageError, match="label"):
        detect([picture], candidate_labels=labels)


def test_a_label_of_too_many_tokens_is_refused(detect: Pipeline, picture: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match="label 'a a a"):
        detect(picture, candidate_labels=["cat", "a " * 40])


def test_points_have_masks_of_the_size_of_the_picture(cut: Pipeline, picture: NDArray[np.uint8]) -> None:
    found = cut(picture, input_points=[[[30, 20]], [[5, 40]]])
    assert [mask.shape for mask in found["masks"]] == [(45, 61)] * 2
    assert found["scores"].dtype == np.float32
    one = cut({"image": picture, "input_points": [[30, 20]], "input_labels": [1]})
    np.testing.assert_array_equal(one["masks"][0], found["masks"][0])
    assert cut.picture(picture, found).size == (61, 45)
    written = cut.to_json(found)
    assert json.loads(json.dumps(written)) == written


def test_a_grid_finds_distinct_masks_best_first(cut: Pipeline, picture: NDArray[np.uint8]) -> None:
    loose = {"points_per_crop": 4, "pred_iou_thresh": -9.0, "stability_score_thresh": 0.0}
    found = cut(picture, **loose)
    assert list(found["scores"]) == sorted(found["scores"], reverse=True)
    more = cut(picture, **loose, crops_nms_thresh=1.0, points_per_batch=3)
    assert len(more["masks"]) > len(found["masks"]) >= 1
    none = cut(picture, points_per_crop=2, pred_iou_thresh=99.0)
    assert none["masks"] == []
    assert none["scores"].shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_points": [[70, 20]]}, "outside"),
        ({"input_points": [[-1, 20]]}, "outside"),
        ({"input_points": [[30, float("nan")]]}, "outside"),
        ({"input_points": [[30, 20]], "input_labels": [2]}, "others than 0 and 1"),
        ({"input_points": [[30, 20]], "input_labels": [1, 1]}, "shapes"),
        ({"input_points": [[[30, 20]], [[30, 20], [1, 1]]]}, "as many points"),
        ({"input_points": [30, 20]}, "as many points"),
        ({"input_points": []}, "as many points"),
        ({"input_points": "middle"}, "as many points"),
    ],
)
def test_invalid_points_are_refused(
    cut: Pipeline, picture: NDArray[np.uint8], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        cut([picture], **options)
    assert caught.value.details["index"] == 0


def test_labels_without_points_are_refused(cut: Pipeline, picture: NDArray[np.uint8]) -> None:
    with pytest.raises(UsageError, match="input_points"):
        cut(picture, input_labels=[1])
