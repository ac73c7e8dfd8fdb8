"""The converter `optimum` with a fake worker, and its refusals from the configuration alone. Without torch."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpux.convert import optimum
from gpux.convert.base import ConversionRequest
from gpux.convert.host.converter import ToolchainConverter, has_modules
from gpux.errors import (
    CancelledError,
    ConversionError,
    GpuxError,
    ToolchainMissingError,
    UnsupportedTaskError,
    WorkerCrashedError,
)
from gpux.system.cancel import CancelToken
from gpux.system.progress import Event, StageFinished, StageStarted, Warned
from gpux.system.settings import Settings

Fake = Callable[[str], Path]
MakeRequest = Callable[..., ConversionRequest]


def test_a_result_becomes_a_report(settings: Settings, fake_python: Fake, make_request: MakeRequest) -> None:
    heard: list[Event] = []
    report = ToolchainConverter(optimum.SPEC, settings, python=fake_python("good")).convert(
        make_request(), progress=heard.append
    )
    assert report.graphs == {"model": "model.onnx"}
    assert report.call_spec.max_length == 7
    assert (report.warnings, dict(report.versions)) == (("careful",), {"torch": "1"})
    assert (report.peak_rss or 0) >= 5  # reported by the worker, or measured
    assert report.seconds > 0
    assert [type(event) for event in heard] == [StageStarted, StageFinished, StageStarted, Warned, StageFinished]
    assert pickle.loads(pickle.dumps(report)) == report
    json.dumps(report.to_dict())


def test_a_failure_is_typed_by_its_code(settings: Settings, fake_python: Fake, make_request: MakeRequest) -> None:
    request = make_request()
    with pytest.raises(UnsupportedTaskError) as caught:
        ToolchainConverter(optimum.SPEC, settings, python=fake_python("failure")).convert(request)
    assert caught.value.message == "org/name cannot be converted for feature-extraction: no"
    assert caught.value.hint == "do that"
    assert caught.value.details == {"cause": "KeyError: 'x'", "log": request.log}
    json.dumps(caught.value.to_dict())


def test_an_unknown_code_is_a_conversion_error(
    settings: Settings, fake_python: Fake, make_request: MakeRequest
) -> None:
    with pytest.raises(ConversionError) as caught:
        ToolchainConverter(optimum.SPEC, settings, python=fake_python("unknown_failure")).convert(make_request())
    assert type(caught.value) is ConversionError
    assert caught.value.log is not None
    assert str(caught.value.log) in str(caught.value.hint)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("killed", ("SIGKILL", "so much memory")),
        ("last_words", ("exit status 3", "the last words")),
        ("silent", ("without a result",)),
    ],
)
def test_a_crash_describes_the_end_and_has_the_last_lines(
    settings: Settings, fake_python: Fake, make_request: MakeRequest, behaviour: str, words: tuple[str, ...]
) -> None:
    request = make_request()
    with pytest.raises(WorkerCrashedError) as caught:
        ToolchainConverter(optimum.SPEC, settings, python=fake_python(behaviour)).convert(request)
    for word in words:
        assert word in caught.value.message
    assert caught.value.log == request.log
    assert ("memory" in str(caught.value.hint)) == (behaviour == "killed")


def test_a_result_without_a_file_is_an_error(settings: Settings, fake_python: Fake, make_request: MakeRequest) -> None:
    with pytest.raises(ConversionError, match=r"reported model\.onnx"):
        ToolchainConverter(optimum.SPEC, settings, python=fake_python("no_file")).convert(make_request())


def test_cancelling(settings: Settings, fake_python: Fake, make_request: MakeRequest) -> None:
    token = CancelToken()
    threading.Timer(0.3, token.cancel).start()
    with pytest.raises(CancelledError):
        ToolchainConverter(optimum.SPEC, settings, python=fake_python("hang")).convert(make_request(), cancel=token)


@pytest.mark.skipif(has_modules(optimum.SPEC.modules), reason="gpux[convert] is installed")
def test_no_toolchain(settings: Settings, make_request: MakeRequest) -> None:
    with pytest.raises(ToolchainMissingError) as caught:
        ToolchainConverter(optimum.SPEC, settings).convert(make_request())
    assert "gpux toolchain install optimum" in str(caught.value.hint)
    assert caught.value.details["toolchain"] == "optimum"
    assert caught.value.details["status"] == "missing"


def test_no_toolchain_is_a_gpux_error_before_anything_is_written(settings: Settings, tmp_path: Path) -> None:
    converter = ToolchainConverter(optimum.SPEC, settings, python=tmp_path / "nowhere")
    with pytest.raises(GpuxError, match="cannot be started"):
        converter.convert(ConversionRequest(tmp_path, tmp_path, tmp_path, tmp_path / "log", "org/name", "fill-mask"))


@pytest.mark.parametrize("task", ["feature-extraction", "text-classification", "fill-mask"])
@pytest.mark.parametrize("model_type", ["bert", "roberta", "distilbert", "mpnet", "xlm-roberta", "modernbert"])
def test_encoders_are_supported(settings: Settings, model_type: str, task: str) -> None:
    assert ToolchainConverter(optimum.SPEC, settings).refusal({"model_type": model_type}, task) is None


@pytest.mark.parametrize(
    ("config", "task", "words"),
    [
        ({"model_type": "decision_transformer"}, "reinforcement-learning", "cannot be run"),
        ({"model_type": "perceiver"}, "image-classification", "axes"),
        ({"model_type": "mamba"}, "text-generation", "state that mamba keeps"),
        ({"model_type": "vits"}, "text-to-speech", "noise_scale"),
        ({"model_type": "vits", "noise_scale": 0.0}, "text-to-speech", "noise_scale"),
        ({"model_type": "llama", "quantization_config": {"quant_method": "gptq"}}, "text-generation", "gptq"),
        ({"model_type": "encoder-decoder", "decoder": {"model_type": "bert"}}, "summarization", "bert"),
    ],
)
def test_known_faults_are_refused(settings: Settings, config: dict[str, Any], task: str, words: str) -> None:
    assert words in str(optimum.known_fault(config, task))
    assert words in str(ToolchainConverter(optimum.SPEC, settings).refusal(config, task))


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({"model_type": "perceiver"}, "fill-mask"),
        ({"model_type": "vits", "noise_scale": 0.0, "noise_scale_duration": 0}, "text-to-speech"),
        ({"model_type": "encoder-decoder", "decoder": {"model_type": "gpt2"}}, "summarization"),
        ({"model_type": "mixtral"}, "text-generation"),
        ({"model_type": "vit"}, "image-classification"),
        ({"model_type": "whisper"}, "automatic-speech-recognition"),
        ({"model_type": "t5"}, "translation"),
        ({"model_type": "sam"}, "mask-generation"),
        ({"model_type": "clip"}, "zero-shot-image-classification"),
        ({"model_type": "bert"}, "multiple-choice"),
        ({"model_type": "segformer"}, "image-segmentation"),
        ({"model_type": "bart"}, "zero-shot-classification"),
        ({"model_type": "clap"}, "zero-shot-audio-classification"),
    ],
)
def test_supported_configurations(settings: Settings, config: dict[str, Any], task: str) -> None:
    assert ToolchainConverter(optimum.SPEC, settings).refusal(config, task) is None


@pytest.mark.parametrize(
    ("model_type", "task", "knows", "words"),
    [
        ("bert", "text-generation", True, "fill-mask"),
        ("bart", "text-generation", True, "summarization"),
        ("bert", "mask-generation", True, "fill-mask"),
        ("distilbart", "fill-mask", False, "distilbert"),
        (None, "fill-mask", False, "''"),
    ],
)
def test_unsupported_tasks_and_types(settings: Settings, model_type: str, task: str, knows: bool, words: str) -> None:
    refusal = ToolchainConverter(optimum.SPEC, settings).refusal({"model_type": model_type}, task)
    assert refusal is not None
    assert refusal.supports_architecture is knows
    assert words in str(refusal)
