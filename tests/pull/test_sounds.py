"""Models of sounds of the zoo, converted, with their answers proven."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gpux.pull.api import pull_model
from gpux.pull.open import pipeline
from gpux.system.settings import Settings
from tests.models import zoo
from tests.processors.audio.sounds import tones

pytestmark = pytest.mark.toolchain


@pytest.mark.parametrize(
    "name", ["wav2vec2__automatic-speech-recognition", "audio-spectrogram-transformer__audio-classification"]
)
def test_answers_about_sounds_are_those_of_the_original(name: str, warm_toolchains: Path, tmp_path: Path) -> None:
    python = warm_toolchains / "optimum" / "bin" / "python"
    subprocess.run([python, zoo.__file__, tmp_path, name], check=True, capture_output=True)
    model = pull_model(tmp_path / name, settings=Settings.from_env(toolchains=warm_toolchains))
    answers = model.manifest.proof.answers
    assert answers is not None
    assert (answers.status, answers.cases > 1) == ("proven", True)
    sound = tmp_path / "sound.flac"
    soundfile.write(sound, np.stack([tones(0.8, 44100), tones(0.8, 44100, 1)], axis=1), 44100)
    with pipeline(model.task, model) as pipe:
        (answer,) = pipe.answers([sound])
        assert pipe.render(answer)
