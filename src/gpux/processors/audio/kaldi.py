"""Feature extractors of Kaldi's filter banks: frames of 25 ms every 10 ms, their mean removed, with pre-emphasis.

Where transformers would use torchaudio, its own numpy code is the reference; the two differ by about 1e-4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.processors.audio.prepared import Extractor, PreparedSound, Samples, padded
from gpux.processors.audio.spectral import mel_filters, spectrum, window

#: Samples of a frame, from one to the next, and of the transform; transformers does not scale them with the rate.
_FRAME, _HOP, _FFT = 400, 160, 512
_FLOOR = 1.192092955078125e-07
#: Full scale of the samples of Kaldi, which are 16-bit integers.
_SCALE = 2**15


class KaldiExtractor(Extractor):
    """The filter banks that the classes below share."""

    window_name = "povey"
    scale = _SCALE

    def __init__(self, class_name: str, settings: Mapping[str, Any]) -> None:
        super().__init__(class_name, settings)
        self._window = window(_FRAME, self.window_name, periodic=False)
        self._bank = mel_filters(
            bins=_FFT // 2 + 1,
            filters=int(settings["num_mel_bins"]),
            lowest=20,
            highest=self.sampling_rate // 2,
            rate=self.sampling_rate,
            scale="kaldi",
            in_mel_space=True,
        )

    def banks(self, samples: Samples) -> NDArray[np.float32]:
        """Log-mel values, float32 [frames, num_mel_bins]."""
        found = spectrum(
            samples * np.float32(self.scale),
            self._window,
            hop=_HOP,
            fft=_FFT,
            center=False,
            preemphasis=0.97,
            remove_mean=True,
            bank=self._bank,
            floor=_FLOOR,
        )
        return np.log(found).astype(np.float32)


class AstExtractor(KaldiExtractor):
    """``ASTFeatureExtractor``: ``input_values`` float32 [max_length, num_mel_bins]."""

    window_name = "hann"
    scale = 1  # as transformers; its model was trained with it

    def __call__(self, samples: Samples, *, attention_mask: bool | None = None) -> PreparedSound:
        """Filter banks, cut or padded with zeros to ``max_length`` frames, and normalized; no mask."""
        settings, most = self.settings, int(self.settings["max_length"])
        values = padded(self.banks(samples)[:most], most)
        if settings["do_normalize"]:
            values = (values - settings["mean"]) / (settings["std"] * 2)
        return PreparedSound({"input_values": values.astype(np.float32, copy=False)}, len(samples))


class SeamlessExtractor(KaldiExtractor):
    """``SeamlessM4TFeatureExtractor``: ``input_features`` float32 [frames / stride, num_mel_bins * stride]."""

    def __call__(self, samples: Samples, *, attention_mask: bool | None = None) -> PreparedSound:
        """Filter banks with mean 0 and variance 1 of each band, ``stride`` frames joined."""
        settings, stride = self.settings, int(self.settings["stride"])
        banks = np.asfortranarray(
            self.banks(samples)
        )  # whose sums numpy rounds as transformers' array, which has this order
        variance = banks.var(axis=0, ddof=min(1, len(banks) - 1))
        values = (banks - banks.mean(axis=0)) / np.sqrt(variance + 1e-7)
        total, side = len(values) + len(values) % 2, str(settings["padding_side"])
        mask = padded(np.ones(len(values), dtype=np.int64), total, 0, side)
        values = padded(values, total, settings["padding_value"], side)
        kept = total - total % stride
        features = values[:kept].reshape(kept // stride, -1).astype(np.float32)
        inputs: dict[str, NDArray[Any]] = {"input_features": features}
        if attention_mask or (attention_mask is None and settings["return_attention_mask"]):
            inputs["attention_mask"] = mask[:kept][np.arange(kept) % stride == 1]
        return PreparedSound(inputs, len(samples))


class SpeechToTextExtractor(KaldiExtractor):
    """``Speech2TextFeatureExtractor``: ``input_features`` float32 [frames, num_mel_bins]."""

    def __call__(self, samples: Samples, *, attention_mask: bool | None = None) -> PreparedSound:
        """Filter banks, normalized over the sound; the mask is there by default."""
        values = self.banks(samples)
        if self.settings["do_ceptral_normalize"]:
            values = normalized(values, self.settings)
        wanted = True if attention_mask is None else attention_mask  # whatever the settings say, as in transformers
        return PreparedSound({"input_features": values, **self.masked(wanted, len(values))}, len(samples))


def normalized(values: NDArray[np.float32], settings: Mapping[str, Any]) -> NDArray[np.float32]:
    """Features with mean 0 and variance 1 of each band over the sound, as far as the settings say."""
    if settings["normalize_means"]:
        values = values - values.mean(axis=0)
    if settings["normalize_vars"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            values = values / values.std(axis=0)
    return values.astype(np.float32)
