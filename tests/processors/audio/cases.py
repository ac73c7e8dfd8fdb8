"""Feature extractors whose output ``scripts/update_sound_goldens.py`` writes: a class, its settings and a sound."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One call of a feature extractor."""

    name: str
    class_name: str
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.5
    rate: int = 16000
    attention_mask: bool | None = None
    keep: int = 1  #: of the features, every ``keep``-th value along the last axis is in the golden file


CASES = (
    Case("wav2vec2", "Wav2Vec2FeatureExtractor", seconds=0.2511),
    Case("wav2vec2-mask", "Wav2Vec2FeatureExtractor", {"return_attention_mask": True}, seconds=0.1),
    Case("wav2vec2-plain", "Wav2Vec2FeatureExtractor", {"do_normalize": False}, seconds=0.1),
    Case("whisper-80", "WhisperFeatureExtractor", {"chunk_length": 1}, seconds=0.731),
    Case("whisper-128", "WhisperFeatureExtractor", {"chunk_length": 1, "feature_size": 128}, 1.3, attention_mask=True),
    Case("whisper-30s", "WhisperFeatureExtractor", {}, 3.7, keep=97, attention_mask=True),
)
