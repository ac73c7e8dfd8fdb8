"""``ClapFeatureExtractor`` of transformers 4.57."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.processors.audio.prepared import Extractor, PreparedSound, Samples, padded
from gpux.processors.audio.spectral import Floats, decibels, mel_filters, spectrum, window


class ClapExtractor(Extractor):
    """``input_features`` float32 [1 or 4, frames, feature_size], and ``is_longer`` bool [1].

    Of a sound longer than ``max_length_s``, transformers takes parts at random places. Here they are fixed: with
    ``rand_trunc`` the first part, and with ``fusion`` the first of each third.
    """

    def __init__(self, class_name: str, settings: Mapping[str, Any]) -> None:
        super().__init__(class_name, settings)
        if settings["truncation"] not in ("fusion", "rand_trunc"):
            raise ValueError(f"truncation is {settings['truncation']!r}")
        self._fusion = settings["truncation"] == "fusion"
        self._most = int(settings["max_length_s"]) * self.sampling_rate
        fft = int(settings["fft_window_size"])
        self._window = window(fft, "hann")
        self._bank = mel_filters(
            bins=fft // 2 + 1,
            filters=int(settings["feature_size"]),
            lowest=float(settings["frequency_min"]),
            highest=float(settings["frequency_max"]),
            rate=self.sampling_rate,
            scale="htk" if self._fusion else "slaney",
            slaney_norm=not self._fusion,
        )

    def __call__(self, samples: Samples, *, attention_mask: bool | None = None) -> PreparedSound:
        """Log-mel features in decibels; a short sound is repeated or padded as ``padding`` says; no mask."""
        longer = len(samples) > self._most
        if self._fusion and longer:
            features, longer = self._fused(self._mels(samples))
        else:
            mels = self._mels(samples[: self._most] if longer else self._filled(samples))
            features = np.stack([mels] * (4 if self._fusion else 1))
        # transformers marks one sound of a batch without long ones at random, for which fusion has an effect
        is_longer = np.array([longer or self._fusion])
        return PreparedSound({"input_features": features, "is_longer": is_longer}, len(samples))

    def _mels(self, samples: Samples) -> NDArray[np.float32]:
        """[frames, feature_size]."""
        mels: Floats = spectrum(samples, self._window, hop=int(self.settings["hop_length"]), bank=self._bank)
        return decibels(mels).astype(np.float32)

    def _filled(self, samples: Samples) -> Samples:
        if self.settings["padding"] == "repeat":
            samples = np.tile(samples, self._most // len(samples) + 1)[: self._most]
        elif self.settings["padding"] == "repeatpad":
            samples = np.tile(samples, self._most // len(samples))
        return padded(samples, self._most)

    def _fused(self, mels: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
        """The whole, shrunk, and three parts; the whole alone if it is hardly longer than a part."""
        frames = self._most // int(self.settings["hop_length"]) + 1
        if len(mels) == frames:
            return np.stack([mels] * 4), False
        places = np.array_split(np.arange(len(mels) - frames + 1), 3)
        starts = [int(place[0]) if len(place) else 0 for place in places]
        parts = [mels[start : start + frames] for start in starts]
        return np.stack([shrunk(mels, frames), *parts]), True


def shrunk(values: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Rows interpolated to fewer, as torch's bilinear ``interpolate`` without aligned corners."""
    places = np.maximum((np.arange(rows) + 0.5) * (len(values) / rows) - 0.5, 0)
    first = np.minimum(places.astype(np.int64), len(values) - 1)
    second = np.minimum(first + 1, len(values) - 1)
    weight = (places - first).astype(np.float32)[:, None]
    found: NDArray[np.float32] = values[first] * (1 - weight) + values[second] * weight
    return found


def stretched(values: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Frames [..., frames, features] interpolated to more, as ``ClapAudioEncoder.reshape_mel2img`` does: by torch's
    bicubic ``interpolate`` with aligned corners. The batch norm before it scales each feature alone, so that the order
    does not matter.
    """
    count = values.shape[-2]
    places = np.arange(rows) * ((count - 1) / max(1, rows - 1))
    first = np.floor(places).astype(np.int64)
    part = (places - first)[:, None]
    found = np.zeros((*values.shape[:-2], rows, values.shape[-1]))
    for offset in (-1, 0, 1, 2):
        index = np.clip(first + offset, 0, count - 1)
        found += values[..., index, :] * _cubic(np.abs(part - offset))
    return found.astype(np.float32)


def _cubic(distance: Floats) -> Floats:
    """Keys' kernel with a = -0.75."""
    a = -0.75
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)
