from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpux.errors import InputError, UnsupportedError
from gpux.model.variant import CallSpec, Manifest, Proof, StoredModel
from gpux.processors.audio.extractor import build, class_names, open_feature_extractor
from gpux.processors.audio.log_mel import WhisperExtractor
from tests.processors.audio.cases import CASES, Case
from tests.processors.audio.sounds import tones

GOLDENS = Path(__file__).parent / "goldens.npz"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_features_equal_those_of_transformers(case: Case) -> None:
    found = build(case.class_name, case.settings, "org/name")(
        tones(case.seconds, case.rate), attention_mask=case.attention_mask
    )
    with np.load(GOLDENS) as goldens:
        expected = {name.partition("/")[2]: goldens[name] for name in goldens if name.startswith(f"{case.name}/")}
    assert set(found.inputs) == set(expected)
    for name, reference in expected.items():
        value = found.inputs[name]
        kept = value[..., :: case.keep] if reference.dtype.kind == "f" else value
        assert kept.shape == reference.shape
        np.testing.assert_allclose(kept, reference, rtol=0, atol=1e-5, err_msg=name)


def _stored(folder: Path, **written: dict[str, Any]) -> StoredModel:
    for name, content in written.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    manifest = Manifest("hf", "org/name", "0" * 40, "t", "fp32", "optimum", (), (), CallSpec(), Proof("proven"), {})
    return StoredModel(folder, manifest)


def test_an_unknown_class_is_refused_by_its_name(tmp_path: Path) -> None:
    model = _stored(tmp_path, preprocessor_config={"feature_extractor_type": "ParakeetFeatureExtractor"})
    with pytest.raises(UnsupportedError, match=r"org/name needs the feature extractor ParakeetFeatureExtractor"):
        open_feature_extractor(model)


def test_a_repository_without_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="has no settings of a feature extractor"):
        open_feature_extractor(_stored(tmp_path, config={"model_type": "wav2vec2"}))


@pytest.mark.parametrize(
    "settings",
    [{"sampling_rate": "high"}, {"sampling_rate": 0}, {"sampling_rate": None}, {"feature_size": -3}, {"n_fft": 0}],
    ids=str,
)
def test_a_setting_of_an_unknown_form_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    model = _stored(tmp_path, preprocessor_config={"feature_extractor_type": "WhisperFeatureExtractor", **settings})
    with pytest.raises(UnsupportedError, match="has settings of WhisperFeatureExtractor that gpux does not know"):
        open_feature_extractor(model)


def test_the_class_follows_from_the_type_of_the_model(tmp_path: Path) -> None:
    model = _stored(tmp_path, preprocessor_config={"do_normalize": False}, config={"model_type": "wavlm"})
    found = open_feature_extractor(model)
    assert (found.class_name, found.sampling_rate) == ("Wav2Vec2FeatureExtractor", 16000)


def test_the_settings_of_processor_config_are_read(tmp_path: Path) -> None:
    inner = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 8000}
    found = open_feature_extractor(_stored(tmp_path, processor_config={"feature_extractor": inner}))
    assert found.sampling_rate == 8000


@pytest.mark.parametrize("name", class_names())
def test_one_sample_gives_features_or_an_error_of_its_own(name: str) -> None:
    try:
        found = build(name, {}, "org/name")(np.array([0.5], np.float32))
    except InputError as exc:
        assert "samples" in exc.message
    else:
        assert all(np.isfinite(array).all() for array in found.inputs.values())


def test_all_of_a_long_sound_is_kept_for_whisper_where_it_is_wanted() -> None:
    extractor = build("WhisperFeatureExtractor", {"chunk_length": 1}, "org/name")
    assert isinstance(extractor, WhisperExtractor)
    long = extractor.whole(tones(2.5))
    assert long.inputs["input_features"].shape == (80, 250)
    assert long.inputs["attention_mask"].sum() == 250
