"""Feature extractors of logarithmic mel spectrograms, apart from Kaldi's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpux.processors.audio.kaldi import normalized
from gpux.processors.audio.prepared import Extractor, PreparedSound, Samples, padded
from gpux.processors.audio.spectral import framed, mel_filters, spectrum, transformed, window


class WhisperExtractor(Extractor):
    """``WhisperFeatureExtractor``: ``input_features`` float32 [features, frames] of ``chunk_length`` seconds."""

    def __init__(self, class_name: str, settings: Mapping[str, Any]) -> None:
        super().__init__(class_name, settings)
        self.hop_length = int(settings["hop_length"])  #: samples from one frame to the next
        self.n_samples = int(settings["chunk_length"]) * self.sampling_rate  #: that the model reads at once
        fft = int(settings["n_fft"])
        self.window = window(fft, "hann")
        self.bank = mel_filters(
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
        value, side = self.settings["padding_value"], str(self.settings["padding_side"])
        inputs = {"input_features": self._features(padded(kept, self.n_samples, value, side))}
        if mask := self.masked(attention_mask, len(kept)):
            inputs["attention_mask"] = self._per_frame(padded(mask["attention_mask"], self.n_samples, 0, side))
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
        mels = spectrum(samples, self.window, hop=self.hop_length, bank=self.bank)[:-1]
        logs = np.log10(mels)
        return ((np.maximum(logs, logs.max() - 8.0) + 4.0) / 4.0).T.astype(np.float32)


class MctctExtractor(Extractor):
    """``MCTCTFeatureExtractor``: ``input_features`` float32 [frames, feature_size]."""

    def __init__(self, class_name: str, settings: Mapping[str, Any]) -> None:
        super().__init__(class_name, settings)
        frame = int(settings["win_length"]) * self.sampling_rate // 1000
        self._hop = int(settings["hop_length"]) * self.sampling_rate // 1000
        self._fft = power_of_two(frame)
        name = str(settings["win_function"])
        self._window = window(frame, name, periodic=name != "hamming_window")
        self._bank = mel_filters(
            bins=self._fft // 2 + 1,
            filters=int(settings["feature_size"]),
            lowest=0.0,
            highest=self.sampling_rate / 2.0,
            rate=self.sampling_rate,
        )

    def __call__(self, samples: Samples, *, attention_mask: bool | None = None) -> PreparedSound:
        """Log-mel magnitudes, normalized over the sound; the mask is there by default."""
        mels = spectrum(
            samples * np.float32(self.settings["frame_signal_scale"]),
            self._window,
            hop=self._hop,
            fft=self._fft,
            power=1.0,
            center=False,
            preemphasis=self.settings["preemphasis_coeff"],
            bank=self._bank,
            floor=self.settings["mel_floor"],
        )
        values = normalized(np.log(mels).astype(np.float32), self.settings)
        wanted = True if attention_mask is None else attention_mask
        return PreparedSound({"input_features": values, **self.masked(wanted, len(values))}, len(samples))


class ClvpExtractor(Extractor):
    """``ClvpFeatureExtractor``: ``input_features`` float32 [feature_size, frames] of the first seconds."""

    def __init__(self, class_name: str, settings: Mapping[str, Any]) -> None:
        super().__init__(class_name, settings)
        self._most = int(settings["default_audio_length"]) * self.sampling_rate
        fft = int(settings["n_fft"])
        self._window = window(fft, "hann")
        self._bank = mel_filters(
            bins=1 + fft // 2,
            filters=int(settings["feature_size"]),
            lowest=0.0,
            highest=8000.0,
            rate=self.sampling_rate,
            slaney_norm=True,
        )

    def __call__(self, samples: Samples, *, attention_mask: bool | None = None) -> PreparedSound:
        """Log-mel powers of the first seconds, over ``mel_norms``; the mask is one of samples."""
        kept, side = samples[: self._most], str(self.settings["padding_side"])
        values = padded(kept, self._most, self.settings["padding_value"], side)
        mels = spectrum(values, self._window, hop=int(self.settings["hop_length"]), bank=self._bank)
        logs = np.log(np.maximum(mels, 1e-5))
        if self.settings["mel_norms"] is not None:
            logs = logs / np.asarray(self.settings["mel_norms"])
        inputs: dict[str, Any] = {"input_features": logs.T.astype(np.float32)}
        if attention_mask is not False:
            inputs["attention_mask"] = padded(np.ones(len(kept), dtype=np.int64), self._most, 0, side)
        return PreparedSound(inputs, len(samples))


class UnivNetExtractor(Extractor):
    """``UnivNetFeatureExtractor``: ``input_features`` float32 [frames, num_mel_bins], ``noise_sequence`` float32
    [frames, model_in_channels] and ``padding_mask`` int64 [samples].
    """

    def __init__(self, class_name: str, settings: Mapping[str, Any]) -> None:
        super().__init__(class_name, settings)
        frame = int(settings["win_length"])
        fft = int(settings["filter_length"] or power_of_two(frame))
        if fft != frame:
            raise ValueError(f"filter_length is {fft}, and win_length is {frame}")
        self._edge = int((fft - int(settings["hop_length"])) / 2)
        self._window = window(frame, str(settings["win_function"]))
        self._bank = mel_filters(
            bins=fft // 2 + 1,
            filters=int(settings["num_mel_bins"]),
            lowest=float(settings["fmin"]),
            highest=self.sampling_rate / 2 if settings["fmax"] is None else float(settings["fmax"]),
            rate=self.sampling_rate,
            scale="slaney",
            slaney_norm=True,
        )

    def __call__(self, samples: Samples, *, attention_mask: bool | None = None) -> PreparedSound:
        """Log-mel magnitudes of the first ``max_length_s`` seconds; the noise, which transformers draws anew for each
        call, has the seed 0."""
        settings = self.settings
        kept = samples[: int(settings["max_length_s"]) * self.sampling_rate]
        powers = spectrum(
            np.pad(kept, self._edge, mode="reflect"),
            self._window,
            hop=int(settings["hop_length"]),
            center=bool(settings["center"]),
        )
        mels = np.sqrt(powers + settings["mel_floor"]) @ self._bank
        logs = np.log(np.maximum(mels, settings["compression_clip_val"]) * settings["compression_factor"])
        values = logs.astype(np.float32)
        if settings["do_normalize"]:
            least, most = settings["normalize_min"], settings["normalize_max"]
            values = 2 * ((values - least) / (most - least)) - 1
        noise = np.random.default_rng(0).standard_normal((len(logs), int(settings["model_in_channels"])), np.float32)
        inputs: dict[str, Any] = {"input_features": values, "noise_sequence": noise}
        if mask := self.masked(attention_mask, len(kept)):
            inputs["padding_mask"] = mask["attention_mask"]
        return PreparedSound(inputs, len(samples))


class Phi4Extractor(Extractor):
    """``Phi4MultimodalFeatureExtractor``: ``audio_input_features`` float32 [frames, feature_size] and
    ``audio_embed_sizes`` int64 [], the tokens of the sound.
    """

    def __init__(self, class_name: str, settings: Mapping[str, Any]) -> None:
        super().__init__(class_name, settings)
        self._window = window(int(settings["win_length"]), "hamming", periodic=False)
        self._bank = mel_filters(
            bins=int(settings["n_fft"]) // 2 + 1,
            filters=int(settings["feature_size"]),
            lowest=float(settings["mel_min_frequency"]),
            highest=float(settings["mel_max_frequency"]),
            rate=self.sampling_rate,
            scale="kaldi",
            in_mel_space=True,
        )

    def __call__(self, samples: Samples, *, attention_mask: bool | None = None) -> PreparedSound:
        """Log-mel powers; one sound has no mask."""
        settings = self.settings
        cut = framed(samples, len(self._window), int(settings["hop_length"]))
        before = np.concatenate([cut[:, :1], cut[:, :-1]], axis=1)
        values = (cut - np.float32(settings["preemphasis"]) * before) * np.float32(32768)  # in float32, as there
        mels = transformed(values, self._window, int(settings["n_fft"]), bank=self._bank, floor=1.0)
        frames = len(mels) * int(settings["audio_feat_stride"])
        for rate in (settings["audio_compression_rate"], settings["audio_downsample_rate"]):
            frames = -(-frames // int(rate))
        features = np.log(mels).astype(np.float32)
        return PreparedSound({"audio_input_features": features, "audio_embed_sizes": np.array(frames)}, len(samples))


def power_of_two(samples: int) -> int:
    """The length of a transform of as many samples: the next power of two."""
    return 1 << max(0, samples - 1).bit_length()
