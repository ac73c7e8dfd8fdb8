"""Feature extractors of logarithmic mel spectrograms, apart from Kaldi's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpux.processors.audio.prepared import Extractor, PreparedSound, Samples
from gpux.processors.audio.spectral import mel_filters, spectrum, window


class WhisperExtractor(Extractor):
    """``WhisperFeatureExtractor``: ``input_features`` float32 [features, frames] of ``chunk_length`` seconds."""

    def __init__(self, class_name: str, settings: Mapping[str, Any]) -> None:
        super().__init__(class_name, settings)
        self.hop_length = int(settings["hop_length"])  #: samples from one frame to the next
        self.n_samples = int(settings["chunk_length"]) * self.sampling_rate  #: that the model reads at once
        fft = int(settings["n_fft"])
        self._window = window(fft, "hann")
        self._bank = mel_filters(
            bins=1 + fft // 2,
            filters=int(settings["feature_size"]),
            lowest=0.0,
            highest=8000.0,
            rate=self.sampling_rate,
            scale="slaney",
            slaney_norm=True,
        )

    def __call__(self, samples: Samples, *, attention_mask: bool | None = None) -> PreparedSound:
        """Log-mel features of the first :attr:`n_samples`, after which silence is added."""
        kept = samples[: self.n_samples]
        value = self.settings["padding_value"]
        padded = np.pad(kept, (0, self.n_samples - len(kept)), constant_values=value)
        inputs = {"input_features": self._features(padded)}
        if mask := self.masked(attention_mask, len(kept)):
            whole = np.pad(mask["attention_mask"], (0, self.n_samples - len(kept)))
            inputs["attention_mask"] = self._per_frame(whole)
        return PreparedSound(inputs, len(samples))

    def whole(self, samples: Samples, *, attention_mask: bool = True) -> PreparedSound:
        """Log-mel features of all samples, however many, without silence; the largest value is that of the whole."""
        inputs = {"input_features": self._features(samples)}
        if attention_mask:
            inputs["attention_mask"] = self._per_frame(np.ones(len(samples), dtype=np.int64))
        return PreparedSound(inputs, len(samples))

    def _per_frame(self, mask: Any) -> Any:
        """A mask of samples as one of frames, of which the last is dropped."""
        found = mask[:: self.hop_length]
        return found[:-1] if len(mask) % self.hop_length else found

    def _features(self, samples: Samples) -> Any:
        mels = spectrum(samples, self._window, hop=self.hop_length, bank=self._bank)[:-1]
        logs = np.log10(mels)
        return ((np.maximum(logs, logs.max() - 8.0) + 4.0) / 4.0).T.astype(np.float32)
