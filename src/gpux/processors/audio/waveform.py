"""Feature extractors that leave a sound as samples."""

from __future__ import annotations

import numpy as np

from gpux.processors.audio.prepared import Extractor, PreparedSound, Samples, standardized


class WaveformExtractor(Extractor):
    """``Wav2Vec2FeatureExtractor`` and ``SpeechT5FeatureExtractor`` (of an input): ``input_values`` [samples]."""

    def __call__(self, samples: Samples, *, attention_mask: bool | None = None) -> PreparedSound:
        """Samples, with mean 0 and variance 1 if ``do_normalize``."""
        values = standardized(samples) if self.settings["do_normalize"] else samples
        inputs = {"input_values": values.astype(np.float32, copy=False), **self.masked(attention_mask, len(values))}
        return PreparedSound(inputs, len(samples))
