"""The feature extractor of a repository, by the class that its files name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from gpux.errors import UnsupportedError
from gpux.model.variant import StoredModel
from gpux.processors.audio.clap import ClapExtractor
from gpux.processors.audio.kaldi import AstExtractor, SeamlessExtractor, SpeechToTextExtractor
from gpux.processors.audio.log_mel import (
    ClvpExtractor,
    MctctExtractor,
    Phi4Extractor,
    UnivNetExtractor,
    WhisperExtractor,
)
from gpux.processors.audio.prepared import PreparedSound, Samples
from gpux.processors.audio.waveform import CodecExtractor, WaveformExtractor


class FeatureExtractor(Protocol):
    """Prepares sounds as one class of transformers does, with the settings of one repository."""

    class_name: str  #: transformers' name: ``Wav2Vec2FeatureExtractor``
    settings: Mapping[str, Any]  #: of the repository's file over the defaults of the class

    @property
    def sampling_rate(self) -> int:
        """Samples per second that the model reads."""

    def __call__(self, samples: Samples, *, attention_mask: bool | None = None) -> PreparedSound:
        """Prepare a sound.

        Args:
            samples: float32 [samples] at :attr:`sampling_rate`, as :func:`gpux.processors.audio.load.load_sound`
                returns them.
            attention_mask: return it; by default as the settings say.

        Raises:
            InputError: the sound is too short.
        """


def open_feature_extractor(model: StoredModel) -> FeatureExtractor:
    """The feature extractor that the files of a variant name.

    The class is in ``preprocessor_config.json`` (``processor_config.json`` of later versions of transformers), else in
    ``config.json``, else it follows from the type of the model, as for ``AutoFeatureExtractor``.

    Raises:
        UnsupportedError: the files name no class, or gpux does not know the class or its settings.
    """
    found = model.read_json("preprocessor_config.json") or model.read_json("processor_config.json")
    inner = found.get("feature_extractor")
    settings: Mapping[str, Any] = inner if isinstance(inner, dict) else found
    config = model.read_json("config.json")
    by_type = _table()["model_types"].get(config.get("model_type"))
    name = (
        settings.get("feature_extractor_type") or config.get("feature_extractor_type") or (by_type if found else None)
    )
    if name not in _CLASSES:
        missing = "has no settings of a feature extractor" if name is None else f"needs the feature extractor {name}"
        raise UnsupportedError(
            f"{model.id} {missing}" + ("" if name is None else ", which gpux does not have"),
            hint="Prepare the arrays yourself and run them with gpux.Graphs.",
            model=model.id,
        )
    return build(str(name), settings, model.id)


def build(name: str, settings: Mapping[str, Any], model: str) -> FeatureExtractor:
    """An extractor of a known class.

    Args:
        name: transformers' name of the class, one of :func:`class_names`.
        settings: of the repository's file; the defaults of the class are added.
        model: its id, for errors.

    Raises:
        UnsupportedError: a setting has a value that gpux does not know.
    """
    defaults = _table()["classes"][name]
    try:
        return _CLASSES[name](name, {**defaults, **settings})
    except (TypeError, ValueError, ArithmeticError) as exc:
        raise UnsupportedError(
            f"{model} has settings of {name} that gpux does not know: {exc}",
            hint="Compare preprocessor_config.json with that of the original model.",
            model=model,
        ) from exc


def class_names() -> tuple[str, ...]:
    """The classes of transformers that gpux has, sorted."""
    return tuple(sorted(_CLASSES))


@cache
def _table() -> dict[str, Any]:
    """``classes.json``, which ``scripts/update_feature_extractors.py`` writes."""
    found: dict[str, Any] = json.loads((files(__package__) / "classes.json").read_text(encoding="utf-8"))
    return found


_CLASSES: dict[str, Callable[[str, Mapping[str, Any]], FeatureExtractor]] = {
    "ASTFeatureExtractor": AstExtractor,
    "ClapFeatureExtractor": ClapExtractor,
    "ClvpFeatureExtractor": ClvpExtractor,
    "DacFeatureExtractor": CodecExtractor,
    "DiaFeatureExtractor": CodecExtractor,
    "EncodecFeatureExtractor": CodecExtractor,
    "KyutaiSpeechToTextFeatureExtractor": CodecExtractor,
    "MCTCTFeatureExtractor": MctctExtractor,
    "Phi4MultimodalFeatureExtractor": Phi4Extractor,
    "SeamlessM4TFeatureExtractor": SeamlessExtractor,
    "Speech2TextFeatureExtractor": SpeechToTextExtractor,
    "SpeechT5FeatureExtractor": WaveformExtractor,
    "UnivNetFeatureExtractor": UnivNetExtractor,
    "Wav2Vec2FeatureExtractor": WaveformExtractor,
    "WhisperFeatureExtractor": WhisperExtractor,
}
