"""Whisper models transcribe speech that espeak-ng speaks as ``transformers.pipeline`` does, token for token."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux import Settings, pipeline, pull_model
from gpux.processors.audio.load import load_sound
from tests.pipelines import speech_reference

pytestmark = pytest.mark.toolchain

SENTENCES = {
    "short": "Hello world, this is a short test.",
    "long": "The quick brown fox jumps over the lazy dog, and runs away into the forest. " * 9,
}
#: Random models repeat themselves, which these options prevent on both sides.
VARIED = {"repetition_penalty": 1.8, "num_beams": 1, "max_new_tokens": 40}
#: Model, sound, options.
CALLS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("multilingual", "short", {"repetition_penalty": 1.8, "max_new_tokens": 12}),  # five beams, language detected
    ("multilingual", "long", {**VARIED, "return_timestamps": True, "condition_on_prev_tokens": True}),
    ("multilingual", "long", {**VARIED, "return_timestamps": "word"}),
    ("multilingual", "long", {**VARIED, "chunk_length_s": 20, "return_timestamps": True}),
    ("multilingual", "short", {**VARIED, "return_timestamps": True, "language": "german", "task": "translate"}),
    ("english", "long", {**VARIED, "chunk_length_s": 25, "prompt": "quick fox"}),
)
FRAME = 0.02


@pytest.fixture(scope="module")
def folder(warm_toolchains: Path, shared_folder: Callable[[str], Path]) -> Path:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    folder = shared_folder(f"speech-{os.getpid()}")
    folder.mkdir(exist_ok=True)
    sounds = {}
    for name, text in SENTENCES.items():
        subprocess.run(["espeak-ng", "-w", folder / f"{name}.wav", text], check=True)
        sounds[name] = load_sound(folder / f"{name}.wav", 16_000)
    np.savez(folder / "sounds.npz", **sounds)
    return folder


@pytest.fixture(scope="module")
def wanted(warm_toolchains: Path, folder: Path) -> list[Any]:
    """The answers of transformers, in the order of the calls."""
    program = [warm_toolchains / "optimum" / "bin" / "python", speech_reference.__file__, folder]
    done = subprocess.run(program, input=json.dumps(CALLS), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[Any] = json.loads(done.stdout)
    return answers


def test_speech_as_transformers(folder: Path, warm_toolchains: Path, wanted: list[Any]) -> None:
    settings = Settings.from_env(toolchains=warm_toolchains, offline=True)
    for name in speech_reference.MODELS:
        model = pull_model(folder / name, settings=settings)
        assert model.manifest.proof.status == "proven"
        with pipeline(model=model, task="automatic-speech-recognition") as transcribe:
            for (used, sound, options), expected in zip(CALLS, wanted, strict=True):
                if used == name:
                    check(transcribe(folder / f"{sound}.wav", **options), expected)


def check(answer: dict[str, Any], expected: dict[str, Any]) -> None:
    """Texts are equal, and times to one frame."""
    assert answer["text"] == expected["text"]
    assert len(answer.get("chunks", ())) == len(expected.get("chunks", ()))
    for chunk, other in zip(answer.get("chunks", ()), expected.get("chunks", ()), strict=True):
        assert chunk["text"] == other["text"]
        for second, reference in zip(chunk["timestamp"], other["timestamp"], strict=True):
            assert (second is None) == (reference is None)
            assert second is None or abs(second - reference) <= FRAME + 1e-6
