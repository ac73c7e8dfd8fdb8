"""The planner: the task, the order of converters, and the error if all refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from gpux.convert.base import ConversionReport, ConversionRequest, Converter, Refusal
from gpux.convert.planner import _preferences, assess, choose_task, preference, unsupported
from gpux.convert.registry import converters
from gpux.errors import UnsupportedArchitectureError, UnsupportedTaskError
from gpux.model.info import ModelFile, ModelInfo
from gpux.model.tasks import ALIASES, canonical, task_of_architectures
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback
from gpux.system.settings import Settings


def info(*files: str, task: str | None = None, architectures: tuple[str, ...] = ()) -> ModelInfo:
    found = tuple(ModelFile(path, 1) for path in ("config.json", "model.safetensors", *files))
    # A misleading name, which must not be used.
    name = "org/gpt2-fill-mask-classifier"
    return ModelInfo("hf", name, name, files=found, task=task, architectures=architectures)


class Stub(Converter):
    name: ClassVar[str] = "stub"

    def __init__(self, refusal: Refusal | None = None, precisions: tuple[str, ...] = ("fp32",)) -> None:
        self._refusal = refusal
        self.precisions = precisions  # type: ignore[misc]

    def refusal(self, config: Mapping[str, Any], task: str) -> Refusal | None:
        return self._refusal

    def check_ready(self) -> None:
        raise AssertionError("readiness is not the planner's business")

    def _convert(self, request: ConversionRequest, progress: ProgressCallback, cancel: CancelToken) -> ConversionReport:
        raise AssertionError("nothing is converted")


@pytest.mark.parametrize(
    ("found", "asked", "expected"),
    [
        (info("modules.json", task="fill-mask", architectures=("BertForMaskedLM",)), "text-classification",
         "text-classification"),
        (info(task="fill-mask"), "sentiment-analysis", "text-classification"),
        (info("modules.json", task="sentence-similarity"), None, "feature-extraction"),
        (info("modules.json", task="fill-mask", architectures=("BertForMaskedLM",)), None, "feature-extraction"),
        (info("modules.json", task="text-ranking"), None, "text-classification"),
        (info("modules.json", architectures=("BertForSequenceClassification",)), None, "text-classification"),
        (info("modules.json", "1_Pooling/config.json", architectures=("BertForSequenceClassification",)), None,
         "feature-extraction"),
        (info("modules.json", "1_SpladePooling/config.json", task="feature-extraction"), None, "fill-mask"),
        (info(task="sentence-similarity"), None, "feature-extraction"),
        (info(task="text-ranking", architectures=("BertForSequenceClassification",)), None, "text-classification"),
        (info(task="fill-mask", architectures=("BertModel",)), None, "fill-mask"),
        (info(architectures=("BertForMaskedLM",)), None, "fill-mask"),
        (info(architectures=("RobertaForSequenceClassification",)), None, "text-classification"),
        (info(architectures=("MPNetModel",)), None, "feature-extraction"),
        (info(architectures=("GPT2LMHeadModel",)), None, "text-generation"),
        (info("sub/modules.json", architectures=("BertModel",)), None, "feature-extraction"),
    ],
)  # fmt: skip
def test_the_task_comes_from_the_request_or_the_files(found: ModelInfo, asked: str | None, expected: str) -> None:
    assert choose_task(found, asked) == expected


@pytest.mark.parametrize("architectures", [(), ("BertForPreTraining",)])
def test_no_task_can_be_determined(architectures: tuple[str, ...]) -> None:
    with pytest.raises(UnsupportedTaskError, match=r"modules\.json") as caught:
        choose_task(info(architectures=architectures))
    assert "--task" in str(caught.value.hint)


NO = Refusal("has no heart", False)


def test_the_refusal_of_each_converter() -> None:
    stubs = {"a": Stub(), "b": Stub(NO), "c": Stub(), "d": Stub(precisions=("fp16",))}
    found = assess({"model_type": "bert"}, "fill-mask", "fp32", stubs)
    assert list(found) == ["a", "b", "c", "d"]
    assert (found["a"], found["b"], found["c"]) == (None, NO, None)
    assert str(found["d"]) == "writes fp16, not fp32"


def test_measured_converters_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpux.convert.planner._preferences", lambda: {"fill-mask": {"bert": ["c", "a"]}})
    assert preference("fill-mask", "bert", ["a", "b", "c"]) == ["c", "a", "b"]
    assert preference("fill-mask", "gpt2", ["b", "a"]) == ["b", "a"]


def test_the_preferences_name_registered_converters() -> None:
    names = converters(Settings.from_env())
    for by_type in _preferences().values():
        for order in by_type.values():
            assert set(order) <= set(names)


@pytest.mark.parametrize(("knows", "kind"), [(True, UnsupportedTaskError), (False, UnsupportedArchitectureError)])
def test_the_error_if_all_refuse(knows: bool, kind: type[Exception]) -> None:
    reasons = {"a": NO, "b": Refusal("is tired", knows)}
    error = unsupported("org/name", {"model_type": "bert"}, "fill-mask", reasons)
    assert type(error) is kind
    assert "org/name (model type bert)" in error.message and "a has no heart; b is tired" in error.message


def test_aliases_lead_to_canonical_names() -> None:
    assert not set(ALIASES.values()) & set(ALIASES)
    for alias, name in ALIASES.items():
        assert canonical(alias) == canonical(alias.upper().replace("-", "_")) == name == canonical(name)


def test_the_first_known_class_determines_the_task() -> None:
    assert task_of_architectures(["Something", "BertForMaskedLM", "BertModel"]) == "fill-mask"
    assert task_of_architectures(["Something"]) is None


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("T5ForConditionalGeneration", "text2text-generation"),
        ("MarianMTModel", "text2text-generation"),
        ("WhisperForConditionalGeneration", "automatic-speech-recognition"),
        ("WhisperForAudioClassification", "audio-classification"),
        ("Wav2Vec2ForCTC", "automatic-speech-recognition"),
        ("HubertForSequenceClassification", "audio-classification"),
        ("BertForSequenceClassification", "text-classification"),
        ("ClapModel", "zero-shot-audio-classification"),
        ("ClapAudioModel", "feature-extraction"),
        ("VisionEncoderDecoderModel", "image-to-text"),
        ("EncoderDecoderModel", "text2text-generation"),
        ("CLIPModel", "zero-shot-image-classification"),
        ("CLIPVisionModel", "feature-extraction"),
        ("ViTForImageClassification", "image-classification"),
        ("DetrForObjectDetection", "object-detection"),
        ("SamModel", "mask-generation"),
        ("OwlViTForObjectDetection", "zero-shot-object-detection"),
        ("Owlv2ForObjectDetection", "zero-shot-object-detection"),
        ("GroundingDinoForObjectDetection", "zero-shot-object-detection"),
        ("MusicgenForConditionalGeneration", "text-to-audio"),
        ("VitsModel", "text-to-audio"),
    ],
)
def test_the_task_of_a_class(architecture: str, task: str) -> None:
    assert task_of_architectures([architecture]) == task


def test_aliases_of_optimum() -> None:
    assert canonical("text-generation-with-past") == "text-generation"
    assert canonical("semantic-segmentation") == "image-segmentation"
