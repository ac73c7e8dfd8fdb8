"""Image processors give the values of transformers 4.57.6 (Pillow), and refuse what they do not know by its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpux.errors import UnsupportedError
from gpux.processors.image.processor import make_image_processor, processor_classes
from tests.processors import image_cases

ANSWERS = Path(__file__).with_name("image_answers.npz")


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What transformers gave: scripts/update_image_processor_answers.py."""
    with np.load(ANSWERS) as found:
        return {name: found[name] for name in found.files}


def prepare(processor: Any, class_name: str, picture: Image.Image) -> Mapping[str, Any]:
    """The inputs of a graph, for classes that take more than one picture too."""
    if class_name in image_cases.TOGETHER:
        return processor.together(image_cases.together(picture)).inputs  # type: ignore[no-any-return]
    if class_name == "VitMatteImageProcessor":
        return processor.with_trimap(picture, picture.convert("L")).inputs  # type: ignore[no-any-return]
    if class_name == "VitPoseImageProcessor":
        parts = processor.boxes(picture, image_cases.boxes(picture))
        return {"pixel_values": np.stack([part.inputs["pixel_values"] for part in parts])}
    return processor(picture).inputs  # type: ignore[no-any-return]


@pytest.mark.parametrize("index", range(len(image_cases.CASES)), ids=lambda index: image_cases.CASES[index][0])
def test_values_equal_those_of_transformers(index: int, answers: dict[str, Any]) -> None:
    """Pixel values and masks, on pictures of four odd sizes."""
    class_name, settings = image_cases.CASES[index]
    processor = make_image_processor(class_name, settings)
    compared = 0
    for place, picture in enumerate(image_cases.pictures()):
        prefix = f"{image_cases.label(index, class_name)}/{place}/"
        expected = {key: value for key, value in answers.items() if key.startswith(prefix)}
        found: dict[str, Any] = {}
        for name, array in prepare(processor, class_name, picture).items():
            found |= image_cases.summary(prefix + name, array)
        assert set(found) == set(expected)
        for key, value in expected.items():
            assert found[key].dtype == value.dtype
            limit = 1e-6 * max(1.0, float(np.abs(value).max())) if key.endswith("#") else 1e-6
            np.testing.assert_allclose(found[key], value, rtol=0, atol=limit, err_msg=key)
        compared += len(expected)
    assert compared


def test_each_class_has_a_case() -> None:
    """A class without a comparison is not offered."""
    assert set(processor_classes()) == {name for name, _ in image_cases.CASES}


@pytest.mark.parametrize("name", ["ViTImageProcessorFast", "ViTFeatureExtractor"])
def test_older_and_faster_names_mean_the_same_class(name: str) -> None:
    """``*Fast`` and ``*FeatureExtractor``."""
    assert make_image_processor(name, {}).class_name == "ViTImageProcessor"


@pytest.mark.parametrize("name", ["MadeUpImageProcessor", "DINOv3ViTImageProcessorFast"])
def test_an_unknown_class_is_refused_by_its_name(name: str) -> None:
    """Nothing is guessed, and a class of torchvision alone is named as such."""
    with pytest.raises(UnsupportedError, match=name):
        make_image_processor(name, {})
