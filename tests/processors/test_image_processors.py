"""Image processors give the values of transformers 4.57.6 (Pillow), and refuse what they do not know by its name."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpux.errors import InputError, UnsupportedError
from gpux.model.json_file import read_json
from gpux.processors.image.processor import make_image_processor, open_image_processor, processor_classes
from tests.processors import image_cases

#: Classes that need scipy, which the warm interpreter hides from transformers.
NEED_SCIPY = ("Owlv2ImageProcessor", "VitPoseImageProcessor")
ANSWERS = Path(__file__).with_name("image_answers.npz")


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What transformers gave: scripts/update_image_processor_answers.py."""
    with np.load(ANSWERS) as found:
        parts = np.split(found["values"], np.cumsum(found["lengths"])[:-1])
        kinds = zip(found["names"], found["kinds"], parts, strict=True)
        return {str(name): values.astype(kind) for name, kind, values in kinds}


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
    for place, picture in enumerate(image_cases.pictures()):
        prefix = f"{image_cases.label(index, class_name)}/{place}/"
        compare(prefix, prepare(processor, class_name, picture), answers)


@pytest.mark.parametrize("label", image_cases.FILES)
def test_files_of_repositories_mean_what_they_mean_to_transformers(
    label: str, answers: dict[str, Any], tmp_path: Path
) -> None:
    """Sizes as numbers, older names of classes and of settings, nulls, and settings of torchvision."""
    preprocessor_config, config = image_cases.FILES[label]
    processor = open_image_processor(_model(tmp_path, preprocessor_config=preprocessor_config, config=config))
    for place, picture in enumerate(image_cases.pictures()[:2]):
        compare(f"files-{label}/{place}/", processor(picture).inputs, answers)


def compare(prefix: str, inputs: Mapping[str, Any], answers: dict[str, Any]) -> None:
    """Inputs of a graph with those of transformers."""
    expected = {key: value for key, value in answers.items() if key.startswith(prefix)}
    found: dict[str, Any] = {}
    for name, array in inputs.items():
        found |= image_cases.summary(prefix + name, array)
    assert expected
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        limit = 1e-6 * max(1.0, float(np.abs(value).max())) if key.endswith("#") else 1e-6
        np.testing.assert_allclose(found[key], value, rtol=0, atol=limit, err_msg=key)


def test_each_class_has_a_case() -> None:
    """A class without a comparison is not offered."""
    assert set(processor_classes()) == {name for name, _ in image_cases.CASES}


def test_the_reference_page_lists_the_classes() -> None:
    """docs/reference/processors.md."""
    page = (Path(__file__).parents[2] / "docs/reference/processors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page.split("## Classes")[1], re.MULTILINE)
    listed = {f"{name}ImageProcessor" for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert listed == set(processor_classes())


@pytest.mark.parametrize("name", ["ViTImageProcessorFast", "ViTFeatureExtractor", "ViTImageProcessorPil"])
def test_older_and_faster_names_mean_the_same_class(name: str) -> None:
    """``*Fast``, ``*FeatureExtractor`` and ``*Pil``."""
    assert make_image_processor(name, {}).class_name == "ViTImageProcessor"


@pytest.mark.parametrize("name", ["MadeUpImageProcessor", "Sam2ImageProcessorFast"])
def test_an_unknown_class_is_refused_by_its_name(name: str) -> None:
    """Nothing is guessed, and a class of torchvision alone is named as such."""
    with pytest.raises(UnsupportedError, match=name):
        make_image_processor(name, {})


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ViTImageProcessor", {"size": {"shortest_edge": 224}}),
        ("ViTImageProcessor", {"size": "large"}),
        ("ViTImageProcessor", {"resample": 17}),
        ("ViTImageProcessor", {"image_mean": [0.5]}),
        ("ViTImageProcessor", {"rescale_factor": None}),
        ("SiglipImageProcessor", {"size": 224}),
        ("ChineseCLIPImageProcessor", {}),
        ("CLIPImageProcessor", {"crop_size": {"width": 3}}),
        ("ConvNextImageProcessor", {"size": {"height": 8, "width": 8}}),
        ("JanusImageProcessor", {"size": [3, 4]}),
        ("Pix2StructImageProcessor", {"is_vqa": True}),
        ("EomtImageProcessor", {"do_split_image": True}),
    ],
    ids=str,
)
def test_settings_that_cannot_be_followed_are_refused_when_opened(name: str, settings: dict[str, Any]) -> None:
    """Before the first picture."""
    with pytest.raises(UnsupportedError):
        make_image_processor(name, settings)


@pytest.mark.parametrize("name", processor_classes())
def test_tiny_and_narrow_pictures_are_prepared_or_refused(name: str) -> None:
    """Never an error of numpy or Pillow."""
    settings = next(settings for class_name, settings in reversed(image_cases.CASES) if class_name == name)
    processor = make_image_processor(name, settings)
    for size in [(1, 1), (1, 300), (300, 1), (2, 3)]:
        try:
            found = prepare(processor, name, Image.new("RGB", size, (1, 2, 3)))
        except InputError as exc:
            assert exc.message
        else:
            assert all(array.size and np.isfinite(array).all() for array in found.values())


def test_a_picture_that_would_become_huge_is_refused() -> None:
    """A line of pixels, whose shorter side would become 800."""
    with pytest.raises(InputError, match="20000 x 1 would be resized to"):
        make_image_processor("CLIPImageProcessor", {"size": 800})(Image.new("RGB", (20_000, 1)))


def _model(folder: Path, **files: Any) -> Any:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))

    def read(name: str) -> Any:
        return read_json(folder / name)

    return SimpleNamespace(id="org/name", read_json=read)


@pytest.mark.parametrize(
    "files",
    [
        {"preprocessor_config": {"image_processor_type": "ViTImageProcessor", "size": 20}},
        {"preprocessor_config": {"feature_extractor_type": "ViTFeatureExtractor", "size": 20}},
        {"preprocessor_config": {"size": 20}, "config": {"model_type": "vit"}},
        {"preprocessor_config": {"size": 20}, "config": {"image_processor_type": "ViTImageProcessorFast"}},
        {"processor_config": {"image_processor": {"image_processor_type": "ViTImageProcessorPil", "size": 20}}},
    ],
    ids=str,
)
def test_the_class_is_read_from_the_files_as_transformers_does(tmp_path: Path, files: dict[str, Any]) -> None:
    """Older, newer and nested files."""
    processor = open_image_processor(_model(tmp_path, **files))
    assert (processor.class_name, processor.settings["size"]) == ("ViTImageProcessor", {"height": 20, "width": 20})


@pytest.mark.parametrize(
    "files", [{}, {"config": {"model_type": "vit"}}, {"preprocessor_config": {"size": 3}}], ids=str
)
def test_missing_files_are_named(tmp_path: Path, files: dict[str, Any]) -> None:
    """With the model, and what to add."""
    with pytest.raises(UnsupportedError, match=r"org/name has no preprocessor_config\.json") as found:
        open_image_processor(_model(tmp_path, **files))
    assert "preprocessor_config.json" in str(found.value.hint)


@pytest.mark.toolchain
def test_every_value_equals_that_of_transformers(warm_toolchains: Path, tmp_path: Path) -> None:
    """The comparison of the golden file, made anew and with all values."""
    script = Path(__file__).parents[2] / "scripts/update_image_processor_answers.py"
    python = warm_toolchains / "optimum/bin/python"
    subprocess.run([python, script, "--all", tmp_path / "all.npz"], check=True, capture_output=True)
    with np.load(tmp_path / "all.npz") as expected:
        for index, (class_name, settings) in enumerate(image_cases.CASES):
            if class_name in NEED_SCIPY:
                continue
            processor = make_image_processor(class_name, settings)
            for place, picture in enumerate(image_cases.pictures()):
                for name, array in prepare(processor, class_name, picture).items():
                    key = f"{image_cases.label(index, class_name)}/{place}/{name}"
                    np.testing.assert_allclose(array, expected[key], rtol=0, atol=1e-6, err_msg=key)
