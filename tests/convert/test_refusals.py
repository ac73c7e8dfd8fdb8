"""Refusals before any weights travel: from the config alone."""

from __future__ import annotations

from typing import Any

import pytest

from gpux.convert import optimum
from gpux.convert.host.converter import ToolchainConverter
from gpux.system.settings import Settings


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
def test_what_is_known_to_be_of_no_use(settings: Settings, config: dict[str, Any], task: str, words: str) -> None:
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
def test_what_is_taken(settings: Settings, config: dict[str, Any], task: str) -> None:
    assert ToolchainConverter(optimum.SPEC, settings).refusal(config, task) is None


@pytest.mark.parametrize(
    ("model_type", "task", "knows", "words"),
    [
        ("bert", "text-generation", True, "fill-mask"),
        ("bart", "text-generation", True, "summarization"),
        ("bert", "mask-generation", True, "fill-mask"),
        ("distilbart", "fill-mask", False, "distilbert"),
    ],
)
def test_what_is_not(settings: Settings, model_type: str, task: str, knows: bool, words: str) -> None:
    refusal = ToolchainConverter(optimum.SPEC, settings).refusal({"model_type": model_type}, task)
    assert refusal is not None
    assert refusal.supports_architecture is knows
    assert words in str(refusal)
