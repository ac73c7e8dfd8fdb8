"""Feature extractors that leave a sound as samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.processors.audio.prepared import Extractor, PreparedSound, Samples, padded, standardized


class WaveformExtractor(Extractor):
    """``Wav2Vec2FeatureExtractor``, and ``SpeechT5FeatureExtractor`` of an input: ``input_values`` [samples]."""

    def __call__(self, samples: Samples, *, attention_mask: bool | None = None) -> PreparedSound:
        """Samples, with mean 0 and variance 1 if ``do_normalize``."""
        values = standardized(samples) if self.settings["do_normalize"] else samples
        inputs = {"input_values": values.astype(np.float32, copy=False), **self.masked(attention_mask, len(values))}
        return PreparedSound(inputs, len(samples))


class CodecExtractor(Extractor):
    """``EncodecFeatureExtractor``, ``DacFeatureExtractor``, ``DiaFeatureExtractor`` and
    ``KyutaiSpeechToTextFeatureExtractor``: ``input_values`` float32 [1, samples] and ``padding_mask`` int64 [samples].
    """

    def __init__(self, class_name: str, settings: Mapping[str, Any]) -> None:
        super().__init__(class_name, settings)
        if settings["feature_size"] != 1 and class_name != "DiaFeatureExtractor":  # which mixes stereo to mono
            raise ValueError(f"feature_size is {settings['feature_size']}: stereo models are not supported")
        self._silence = (  # of Kyutai's class: before the sound, and after it
            int(float(settings.get("audio_silence_prefix_seconds") or 0) * self.sampling_rate),
            int((float(settings.get("audio_delay_seconds") or 0) + 1.0) * self.sampling_rate)
            if "audio_delay_seconds" in settings
            else 0,
        )

    def __call__(self, samples: Samples, *, attention_mask: bool | None = None) -> PreparedSound:
        """Samples, padded to whole chunks or hops; the mask is always there."""
        total = self._length(len(samples))
        values = self._padded(samples, total, self.settings["padding_value"])
        mask = self._padded(np.ones(len(samples), dtype=np.int64), total, 0)
        return PreparedSound({"input_values": values[None], "padding_mask": mask}, len(samples))

    def _padded(self, values: NDArray[Any], total: int, value: float) -> NDArray[Any]:
        return np.pad(padded(values, total, value, str(self.settings["padding_side"])), self._silence)

    def _length(self, samples: int) -> int:
        """Samples after padding."""
        settings = self.settings
        if "hop_length" in settings:
            hop = int(settings["hop_length"])
            return math.ceil(samples / hop) * hop
        if settings["chunk_length_s"] is None or settings["overlap"] is None:
            return samples
        chunk = int(settings["chunk_length_s"] * self.sampling_rate)
        stride = max(1, int((1.0 - settings["overlap"]) * chunk))
        return max(samples, (math.ceil(samples / stride) - 1) * stride + chunk)
