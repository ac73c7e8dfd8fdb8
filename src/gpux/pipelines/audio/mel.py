"""The log-mel features of a sound of any length, window by window, in bounded memory.

transformers computes the features of the whole sound, and sets values far below its loudest one to a floor. So the
sound is read twice: once for its length and its loudest value, and once for the windows. Frames are computed from the
same samples as in one piece, so they are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpux.processors.audio.log_mel import WhisperExtractor
from gpux.processors.audio.prepared import Samples
from gpux.processors.audio.spectral import spectrum

Features = NDArray[np.float32]  #: [features, frames]
#: Frames whose features are kept from the first reading, so that the sound need not be read again: ten minutes.
_KEPT = 60_000


class MelSource(Protocol):
    """Features of one sound."""

    frames: int  #: in all
    sounding: int  #: frames without those of padding

    def window(self, start: int, count: int) -> Features:
        """Frames from ``start``, never less than in the call before, ``[features, count]``."""


class PaddedMel:
    """A sound of one window at most, padded with silence.

    Args:
        samples: float32 [samples].
        extractor: of the model.
    """

    def __init__(self, samples: Samples, extractor: WhisperExtractor) -> None:
        found = extractor(samples, attention_mask=True).inputs
        self._features: Features = found["input_features"]
        self.frames = int(self._features.shape[1])
        self.sounding = int(found["attention_mask"].sum())

    def window(self, start: int, count: int) -> Features:
        """See :class:`MelSource`."""
        return self._features[:, start : start + count]


class LongMel:
    """A sound of more than one window.

    Args:
        blocks: opens the sound: blocks of samples, none empty; called twice for a sound beyond ten minutes.
        extractor: of the model.
    """

    def __init__(self, blocks: Callable[[], Iterator[Samples]], extractor: WhisperExtractor) -> None:
        self._open, self._extractor = blocks, extractor
        loudest, count = -np.inf, 0
        kept: list[NDArray[np.float64]] | None = []
        for logs in self._logs():
            loudest, count = max(loudest, float(logs.max(initial=-np.inf))), count + len(logs)
            if kept is not None:
                kept.append(logs)
            if count > _KEPT:
                kept = None
        self._floor = loudest - 8.0
        self.frames = self.sounding = count
        self._coming: Iterator[NDArray[np.float64]] = iter(kept) if kept is not None else self._logs()
        self._held = np.zeros((0, 0))
        self._start = 0  #: frame of the first row of ``_held``

    def window(self, start: int, count: int) -> Features:
        """See :class:`MelSource`."""
        parts = [self._held] if len(self._held) else []
        held = len(self._held)
        while self._start + held < start + count and (more := next(self._coming, None)) is not None:
            parts.append(more)
            held += len(more)
            while parts and self._start + len(parts[0]) <= start:  # before the window
                self._start += len(parts[0])
                held -= len(parts[0])
                del parts[0]
        joined = np.concatenate(parts) if len(parts) != 1 else parts[0]
        self._held, self._start = joined[start - self._start :], start
        logs = self._held[:count]
        features: Features = ((np.maximum(logs, self._floor) + 4.0) / 4.0).T.astype(np.float32)
        return features

    def _logs(self) -> Iterator[NDArray[np.float64]]:
        """Logarithms of the mel bands, [frames, features], in pieces; the last frame of the sound is left out."""
        hop, half = self._extractor.hop_length, len(self._extractor.window) // 2
        held = np.zeros(0, np.float32)
        begun, done, total = False, 0, 0  # frames computed, and samples read
        for block in self._open():
            held = np.concatenate([held, block])
            total += len(block)
            if not begun and len(held) > half:
                held, begun = np.concatenate([held[half:0:-1], held]), True
            count = (len(held) - 2 * half) // hop + 1 if begun else 0
            count = min(count, total // hop - done)
            if count > 0:
                yield self._log(held[: (count - 1) * hop + 2 * half])
                held, done = held[count * hop :], done + count
        rest = total // hop - done
        if rest > 0:
            held = np.concatenate([held, held[-2 : -half - 2 : -1]])
            yield self._log(held[: (rest - 1) * hop + 2 * half])

    def _log(self, samples: Samples) -> NDArray[np.float64]:
        extractor = self._extractor
        found: NDArray[np.float64] = np.log10(
            spectrum(samples, extractor.window, hop=extractor.hop_length, bank=extractor.bank, center=False)
        )
        return found
