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
    Case("whisper-left", "WhisperFeatureExtractor", {"chunk_length": 1, "padding_side": "left"}, 0.4, keep=3),
    Case("ast", "ASTFeatureExtractor", {}, 0.613, keep=7),
    Case("ast-cut", "ASTFeatureExtractor", {"max_length": 40, "num_mel_bins": 64}, keep=3),
    Case("ast-plain", "ASTFeatureExtractor", {"do_normalize": False, "max_length": 20}, 0.3, keep=7),
    Case("seamless", "SeamlessM4TFeatureExtractor", {}, 0.3611, keep=5),
    Case("seamless-odd", "SeamlessM4TFeatureExtractor", {"stride": 3, "padding_side": "left"}, 0.3, keep=5),
    Case("speech-to-text", "Speech2TextFeatureExtractor", {}, 0.41, keep=5),
    Case("speech-to-text-plain", "Speech2TextFeatureExtractor", {"do_ceptral_normalize": False}, 0.2, keep=5),
    Case("speech-to-text-means", "Speech2TextFeatureExtractor", {"normalize_vars": False}, 0.2, keep=5),
    Case("mctct", "MCTCTFeatureExtractor", {}, 0.371, keep=5),
    Case("mctct-hann", "MCTCTFeatureExtractor", {"win_function": "hann_window", "feature_size": 40}, 0.2, keep=5),
    Case("clap-short", "ClapFeatureExtractor", {"max_length_s": 1}, 0.31, 48000, keep=7),
    Case(
        "clap-pad",
        "ClapFeatureExtractor",
        {"max_length_s": 1, "truncation": "rand_trunc", "padding": "pad"},
        0.7,
        48000,
        keep=7,
    ),
    Case(
        "clap-repeat",
        "ClapFeatureExtractor",
        {"max_length_s": 1, "truncation": "rand_trunc", "padding": "repeat"},
        0.37,
        48000,
        keep=7,
    ),
    Case("clap-hardly-longer", "ClapFeatureExtractor", {"max_length_s": 1}, 1.001, 48000, keep=7),
    Case("speecht5", "SpeechT5FeatureExtractor", {"do_normalize": True}, 0.05),
    Case("encodec", "EncodecFeatureExtractor", {}, 0.05, 24000),
    Case("encodec-chunks", "EncodecFeatureExtractor", {"chunk_length_s": 0.05, "overlap": 0.2}, 0.13, 24000, keep=3),
    Case("dac", "DacFeatureExtractor", {}, 0.1, keep=3),
    Case("dia", "DiaFeatureExtractor", {"sampling_rate": 44100}, 0.05, 44100, keep=3),
    Case(
        "kyutai",
        "KyutaiSpeechToTextFeatureExtractor",
        {"audio_delay_seconds": 0.1, "audio_silence_prefix_seconds": 0.2},
        0.1,
        24000,
        keep=11,
    ),
    Case("univnet", "UnivNetFeatureExtractor", {"do_normalize": True}, 0.3, 24000, keep=7),
    Case(
        "univnet-center",
        "UnivNetFeatureExtractor",
        {"center": True, "num_mel_bins": 40, "fmax": 8000},
        0.2,
        24000,
        keep=7,
    ),
    Case(
        "clvp",
        "ClvpFeatureExtractor",
        {"default_audio_length": 1, "feature_size": 40, "mel_norms": [1.5] * 40},
        0.7,
        22050,
        keep=5,
    ),
    Case("phi4", "Phi4MultimodalFeatureExtractor", {}, 0.371, keep=5),
)
