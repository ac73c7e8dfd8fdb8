"""Windows, short-time Fourier transforms and mel filter banks in numpy.

The formulas are those of ``transformers.audio_utils`` 4.57, which follow librosa (``slaney``), HTK and Kaldi. Spectra
are computed in float64 and kept in complex64, as there.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError

Floats = NDArray[np.float64]
MelScale = Literal["htk", "slaney", "kaldi"]

#: Frames that are transformed at once: a long sound needs little more memory than its spectrum.
_FRAMES = 1024


def window(length: int, name: str, *, periodic: bool = True) -> Floats:
    """A window function, float64 [length].

    Args:
        length: samples.
        name: ``hann``, ``hamming``, ``povey`` (Hann to the power of 0.85, of Kaldi) or ``boxcar``; torch's names, which
            end with ``_window``, too.
        periodic: a period of ``length``; else symmetric.

    Raises:
        ValueError: an unknown name.
    """
    count = length + 1 if periodic else length
    plain = name.removesuffix("_window")
    if plain == "boxcar":
        values = np.ones(count)
    elif plain == "hamming":
        values = np.hamming(count)
    elif plain == "hann":
        values = np.hanning(count)
    elif plain == "povey":
        values = np.power(np.hanning(count), 0.85)
    else:
        raise ValueError(f"window function {name!r}")
    return values[:length]


def to_mel(hertz: Any, scale: MelScale) -> Floats:
    """Frequencies in Hz on a mel scale."""
    freq = np.asarray(hertz, dtype=np.float64)
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + freq / 700.0)
    if scale == "kaldi":
        return 1127.0 * np.log(1.0 + freq / 700.0)
    with np.errstate(divide="ignore"):
        high = 15.0 + np.log(freq / 1000.0) * (27.0 / np.log(6.4))
    return np.where(freq >= 1000.0, high, 3.0 * freq / 200.0)


def to_hertz(mels: Floats, scale: MelScale) -> Floats:
    """The inverse of :func:`to_mel`."""
    if scale == "htk":
        return 700.0 * (np.power(10, mels / 2595.0) - 1.0)
    if scale == "kaldi":
        return 700.0 * (np.exp(mels / 1127.0) - 1.0)
    return np.where(mels >= 15.0, 1000.0 * np.exp(np.log(6.4) / 27.0 * (mels - 15.0)), 200.0 * mels / 3.0)


@cache
def mel_filters(
    *,
    bins: int,
    filters: int,
    lowest: float,
    highest: float,
    rate: int,
    scale: MelScale = "htk",
    slaney_norm: bool = False,
    in_mel_space: bool = False,
) -> Floats:
    """Triangular filters, float64 [bins, filters]; shared by its callers, and read-only.

    Args:
        bins: frequencies of the spectrum: half the length of the transform, plus 1.
        filters: number of mel bands.
        lowest: frequency where the first filter begins, in Hz.
        highest: frequency where the last filter ends, in Hz.
        rate: samples per second.
        scale: on which the bands have equal widths.
        slaney_norm: divide each filter by the width of its band.
        in_mel_space: triangles on the mel scale in place of the scale in Hz, as Kaldi.

    Raises:
        ValueError: no band can be made of these numbers.
    """
    if bins < 2 or filters < 1 or not 0 <= lowest < highest:
        raise ValueError(f"{filters} mel bands of {bins} frequencies from {lowest} to {highest} Hz")
    edges = np.linspace(to_mel(lowest, scale), to_mel(highest, scale), filters + 2)
    if in_mel_space:
        centers, at = edges, to_mel(rate / ((bins - 1) * 2) * np.arange(bins), scale)
    else:
        centers, at = to_hertz(edges, scale), np.linspace(0, rate // 2, bins)
    widths = np.diff(centers)
    slopes = centers[None, :] - at[:, None]
    found: Floats = np.maximum(0.0, np.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]))
    if slaney_norm:
        found *= 2.0 / (centers[2:] - centers[:-2])
    found.setflags(write=False)
    return found


def spectrum(
    samples: NDArray[Any],
    window: Floats,
    *,
    hop: int,
    fft: int | None = None,
    power: float = 2.0,
    center: bool = True,
    preemphasis: float | None = None,
    remove_mean: bool = False,
    bank: Floats | None = None,
    floor: float = 1e-10,
) -> Floats:
    """Magnitudes of a short-time Fourier transform to a power, or their sums over mel bands.

    Args:
        samples: [samples].
        window: [frame], which sets the length of a frame.
        hop: samples from one frame to the next.
        fft: length of the transform; by default that of a frame.
        power: 1 for magnitudes, 2 for powers.
        center: pad both ends with half a frame of mirrored samples, so that frame ``t`` is centered at ``t * hop``.
        preemphasis: factor of the previous sample of a frame, which is subtracted.
        remove_mean: subtract the mean of each frame first.
        bank: mel filters [bins, filters].
        floor: smallest sum of a mel band.

    Returns:
        float64 [frames, bins], or [frames, filters] with a bank.

    Raises:
        InputError: the samples are fewer than a frame.
    """
    frame = len(window)
    if center:
        samples = np.pad(samples, frame // 2, mode="reflect")
    frames = framed(samples, frame, hop)
    length = fft or frame
    shape = (len(frames), length // 2 + 1 if bank is None else bank.shape[1])
    found = np.full(shape, 0.0 if bank is None else max(floor, 0.0))  # what frames of zeros give
    sounding = min(len(frames), -(-_up_to_zeros(samples) // hop))
    for at in range(0, sounding, _FRAMES):
        rows = frames[at : min(at + _FRAMES, sounding)]
        found[at : at + len(rows)] = _rows(rows, window, length, power, preemphasis, remove_mean, bank, floor)
    return found


def _up_to_zeros(samples: NDArray[Any]) -> int:
    """Samples without the zeros at the end."""
    backwards = samples[::-1] != 0
    return len(samples) - int(backwards.argmax()) if backwards.any() else 0


def framed(samples: NDArray[Any], frame: int, hop: int) -> NDArray[Any]:
    """Overlapping frames of samples [frames, frame], as a view; what is left at the end is dropped.

    Raises:
        InputError: the samples are fewer than a frame.
    """
    if len(samples) < frame:
        raise InputError(f"the sound has {len(samples)} samples, and the model needs {frame} at least")
    return np.lib.stride_tricks.sliding_window_view(samples, frame)[::hop]


def _rows(
    frames: NDArray[Any],
    window: Floats,
    fft: int,
    power: float,
    preemphasis: float | None,
    remove_mean: bool,
    bank: Floats | None,
    floor: float,
) -> Floats:
    if not remove_mean and preemphasis is None:
        return transformed(frames, window, fft, power=power, bank=bank, floor=floor)
    values = frames.astype(np.float64)
    if remove_mean:
        values -= values.mean(axis=1, keepdims=True)
    if preemphasis is not None:
        values[:, 1:] -= preemphasis * values[:, :-1]
        values[:, 0] *= 1 - preemphasis
    return transformed(values, window, fft, power=power, bank=bank, floor=floor)


def transformed(
    frames: NDArray[Any],
    window: Floats,
    fft: int,
    *,
    power: float = 2.0,
    bank: Floats | None = None,
    floor: float = 0.0,
) -> Floats:
    """What :func:`spectrum` returns, of frames [frames, frame] that are cut and filtered already."""
    complexes = np.fft.rfft(frames * window, fft, axis=1).astype(np.complex64)
    found: Floats = np.abs(complexes, dtype=np.float64) ** power
    return found if bank is None else np.maximum(floor, found @ bank)


def decibels(values: Floats, least: float = 1e-10) -> Floats:
    """Powers in decibels."""
    found: Floats = 10.0 * np.log10(np.maximum(values, least))
    return found
