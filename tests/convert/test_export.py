"""The files of an export: the right parts, each weight once, nothing else; and refusals with a reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest

from gpux.convert import optimum
from gpux.convert.base import ConversionReport, ConversionRequest
from gpux.convert.host.converter import ToolchainConverter
from gpux.errors import ConversionError, GpuxError, UnsupportedTaskError
from gpux.model.variant import Proof
from gpux.proof import comparison
from gpux.system.settings import Settings
from tests.models import zoo
from tests.zoo_models import ZooModels

pytestmark = pytest.mark.toolchain
MakeRequest = Callable[..., ConversionRequest]

#: Model type, the zoo's name of the task, the parts.
PARTS = (
    ("gpt2", "text-generation-with-past", {"model"}),
    ("falcon+new", "text-generation-with-past", {"model"}),
    ("mixtral", "text-generation-with-past", {"model"}),
    ("t5", "text2text-generation-with-past", {"encoder", "decoder"}),
    ("longt5", "text2text-generation-with-past", {"encoder", "decoder"}),
    ("whisper", "automatic-speech-recognition-with-past", {"encoder", "decoder"}),
    ("sam", "feature-extraction", {"vision_encoder", "prompt_encoder_mask_decoder"}),
    ("longformer", "fill-mask", {"model"}),
    ("siglip2", "zero-shot-image-classification", {"model"}),
    ("dinov2", "image-classification", {"model"}),
)


@pytest.fixture(scope="module")
def folders(zoo_models: ZooModels) -> Path:
    """The models, which no test may change."""
    names = [zoo.folder_name(model_type, task) for model_type, task, _ in PARTS]
    return zoo_models.build(*names, zoo.folder_name("gpt2", "text-classification"))


@pytest.fixture
def converter(settings: Settings, warm_python: Path) -> ToolchainConverter:
    return ToolchainConverter(optimum.SPEC, settings, python=warm_python)


def prove(request: ConversionRequest, report: ConversionReport) -> Proof:
    opened = {
        name: onnxruntime.InferenceSession(str(request.output / file), providers=["CPUExecutionProvider"])
        for name, file in report.graphs.items()
    }

    def run(graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        names = [output.name for output in opened[graph].get_outputs()]
        return dict(zip(names, opened[graph].run(names, dict(inputs)), strict=True))

    return comparison.prove(request.reference, run, "fp32", thresholds=report.thresholds)


@pytest.mark.parametrize(("model_type", "task", "parts"), PARTS, ids=[entry[0] for entry in PARTS])
def test_the_files_are_the_parts_and_nothing_else(
    converter: ToolchainConverter, make_request: MakeRequest, folders: Path, model_type: str, task: str, parts: set[str]
) -> None:
    request = make_request(folders / zoo.folder_name(model_type, task), task.removesuffix("-with-past"))
    report = converter.convert(request)
    assert set(report.graphs) == parts
    tokenizer = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    left = {path.name for path in request.output.iterdir()} - tokenizer
    assert left == {f"{part}.onnx" for part in parts}
    assert prove(request, report).status == "proven"


def test_tied_weights_are_written_once(converter: ToolchainConverter, make_request: MakeRequest, folders: Path) -> None:
    source = folders / zoo.folder_name("gpt2", "text-generation-with-past")
    request = make_request(source, "text-generation")
    converter.convert(request)
    written = sum(
        onnx.numpy_helper.to_array(tensor).nbytes
        for tensor in onnx.load(request.output / "model.onnx").graph.initializer
    )
    assert written <= 1.02 * (source / "model.safetensors").stat().st_size


def refused(converter: ToolchainConverter, request: ConversionRequest, kind: type[GpuxError]) -> GpuxError:
    with pytest.raises(kind) as caught:
        converter.convert(request)
    return caught.value


def test_a_classifier_without_a_padding_token(
    converter: ToolchainConverter, make_request: MakeRequest, folders: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(folders / zoo.folder_name("gpt2", "text-classification"), source)
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))
    error = refused(converter, make_request(source, "text-classification"), ConversionError)
    assert "pad_token_id" in error.message


def test_an_image_model_without_a_processor(
    converter: ToolchainConverter, make_request: MakeRequest, folders: Path, tmp_path: Path
) -> None:
    """dinov2 is then traced at the size in its config."""
    source = tmp_path / "source"
    shutil.copytree(folders / zoo.folder_name("dinov2", "image-classification"), source)
    (source / "preprocessor_config.json").unlink()
    request = make_request(source, "image-classification")
    assert prove(request, converter.convert(request)).status == "proven"


def test_a_task_of_another_kind(converter: ToolchainConverter, make_request: MakeRequest, folders: Path) -> None:
    source = folders / zoo.folder_name("whisper", "automatic-speech-recognition-with-past")
    error = refused(converter, make_request(source, "image-classification"), UnsupportedTaskError)
    assert "automatic-speech-recognition" in error.message
