"""Opens sounds: from a path, bytes, a file object or an array, as mono float32 samples at a wanted rate.

libsndfile (wav, flac, ogg, mp3 and others) reads files block by block; PyAV, if it is installed, reads containers such
as mp4, m4a and webm. Channels are mixed to their mean. soxr resamples at its quality HQ, which differs by about 1e-3
from the resamplers of ffmpeg, torchaudio and librosa; samples that have the wanted rate are left as they are.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypedDict

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from gpux.download.address import is_address, read_address
from gpux.errors import InputError
from gpux.processors.audio.containers import HEAD, container_blocks, is_container
from gpux.processors.audio.prepared import Samples
from gpux.processors.limits import media_limits


class RawSound(TypedDict, total=False):
    """Samples with their rate, as ``transformers.pipeline`` and ``datasets`` have them: ``array`` or ``raw``."""

    array: NDArray[Any]  #: [samples] or [channels, samples]
    raw: NDArray[Any]  #: the same
    sampling_rate: int  #: Hz
    path: str | None  #: not read


#: What :func:`load_sound` accepts. An array without a rate is taken to have the model's rate.
SoundInput = str | Path | bytes | IO[bytes] | NDArray[Any] | RawSound

#: Seconds of a file that are decoded at once.
_BLOCK_SECONDS = 10
#: Channels that a sound may have; an array with more is probably transposed.
_MOST_CHANNELS = 64
#: Hz; soxr takes any rate, but a number beyond these is no rate of a sound.
_RATES = (100, 10_000_000)
#: Size of the data of a wav file from which a program that could not know it wrote a placeholder.
_UNKNOWN_SIZE = 0x7FFF0000
_FORMATS = "wav, flac, ogg and mp3 are read; mp4, m4a and webm if PyAV is installed."


def load_sound(sound: SoundInput, rate: int, index: int = 0) -> Samples:
    """The samples of a sound at a rate: float32 [samples], mono, full scale is 1.

    Args:
        sound: a path, the bytes of a file, a file opened for reading bytes, an array, or a dict of an array and its
            rate. An array is [samples] or [channels, samples]: floats, whose full scale is 1, or int16, int32, int8 or
            uint8, whose full scale is their range.
        rate: wanted, in Hz; an array without a rate is taken to have it.
        index: its place among several inputs, for errors.

    Raises:
        InputError: it cannot be read as a sound, is empty or cut off, or a sample is not finite.
    """
    blocks = list(_blocks(_Sound.open(sound, rate, index), rate))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def open_sound_blocks(sound: SoundInput, rate: int, block_seconds: float = 30.0, index: int = 0) -> Iterator[Samples]:
    """The samples of a sound in blocks, in bounded memory however long a file is.

    The blocks together are what :func:`load_sound` returns, sample by sample.

    Args:
        sound: as for :func:`load_sound`; it is opened by the call, and read while the blocks are.
        rate: wanted, in Hz.
        block_seconds: length of every block but the last, which is shorter and never empty.
        index: its place among several inputs, for errors.

    Returns:
        An iterator of float32 [samples].

    Raises:
        InputError: as :func:`load_sound`; the iterator raises it too.
    """
    return _regular(_blocks(_Sound.open(sound, rate, index), rate), max(1, round(block_seconds * rate)))


def fetch_sound(sound: SoundInput, index: int = 0) -> SoundInput:
    """The bytes at an http or https address; any other sound as it is.

    Args:
        sound: as for :func:`load_sound`.
        index: its place among several inputs, for errors.

    Raises:
        InputError: the server refuses, or does not answer.
    """
    if not isinstance(sound, str) or not is_address(sound):
        return sound
    try:
        return read_address(sound)
    except InputError as exc:
        raise InputError(f"sound {index}: {exc.message}", hint=exc.hint, index=index) from exc


class _Sound:
    """A sound with its name in errors, and its samples as they come."""

    def __init__(self, name: str, index: int, rate: int, blocks: Iterator[NDArray[Any]]) -> None:
        self.name, self.index = name, index
        self.rate = rate  #: Hz
        self.blocks = blocks  #: [samples] each, of a type that :func:`_floats` returns

    @classmethod
    def open(cls, sound: Any, rate: int, index: int) -> _Sound:
        name = f"sound {index}"
        if isinstance(sound, Mapping):
            array, rate = _raw(sound, name, index)
            return cls(name, index, rate, iter([_mono(array, name, index)]))
        if isinstance(sound, np.ndarray):
            return cls(name, index, rate, iter([_mono(sound, name, index)]))
        if isinstance(sound, (str, Path)):
            name = f"{name} ({sound})"
        return _opened(sound, name, index)

    def error(self, message: str, hint: str | None = None, **details: Any) -> InputError:
        return InputError(f"{self.name} {message}", hint=hint, index=self.index, **details)


def _opened(sound: Any, name: str, index: int) -> _Sound:
    """A file: a path, bytes, or something that reads bytes."""
    file, head = _readable(sound, name, index)
    if is_container(head):
        rate, blocks = container_blocks(file, name, index)
        return _Sound(name, index, rate, blocks)
    try:
        opened = soundfile.SoundFile(file)
    except soundfile.LibsndfileError as exc:
        raise _unreadable(name, index, exc) from exc
    found = _Sound(name, index, int(opened.samplerate), iter(()))
    found.blocks = _decoded(opened, found)
    _check_rate(found.rate, name, index)
    _check_whole(opened, found)
    _check_length(opened.frames / found.rate, found)
    return found


def _readable(sound: Any, name: str, index: int) -> tuple[Any, bytes]:
    """What libsndfile and PyAV open, a path or a file that can seek, and its first bytes."""
    if isinstance(sound, (bytes, bytearray, memoryview)):
        return io.BytesIO(sound), bytes(sound[:HEAD])
    if isinstance(sound, str) and is_address(sound):
        raise InputError(
            f"{name} is an address, which is fetched only when asked for",
            hint="Open the pipeline with allow_urls=True, or download the file and pass its path.",
            index=index,
        )
    if isinstance(sound, (str, os.PathLike)):
        try:
            with Path(sound).open("rb") as opened:
                return os.fspath(sound), opened.read(HEAD)
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
            raise InputError(f"{name} cannot be read: {reason}", index=index) from exc
    if hasattr(sound, "read"):
        file = sound if _can_seek(sound) else io.BytesIO(sound.read())
        start = file.tell()
        head = file.read(HEAD)
        file.seek(start)
        return file, head
    raise InputError(
        f"{name} is {type(sound).__name__}",
        hint="Pass a path, the bytes of a file, an array, or {'array': array, 'sampling_rate': Hz}.",
        index=index,
    )


def _can_seek(file: Any) -> bool:
    return bool(getattr(file, "seekable", lambda: False)())


def _raw(sound: Mapping[str, Any], name: str, index: int) -> tuple[Any, int]:
    """The array and the rate of a dict."""
    array = sound.get("raw", sound.get("array"))
    unknown = set(sound) - {"raw", "array", "sampling_rate", "path"}
    if array is None or "sampling_rate" not in sound or unknown:
        has = ", ".join(map(str, sound)) or "nothing"
        raise InputError(
            f"{name} is a dict that has {has}",
            hint="It must have the samples as 'array' (or 'raw') and their rate in Hz as 'sampling_rate'.",
            index=index,
        )
    rate = sound["sampling_rate"]
    _check_rate(rate, name, index)
    return array, int(rate)


def _check_rate(rate: Any, name: str, index: int) -> None:
    number = isinstance(rate, (int, np.integer)) or (isinstance(rate, float) and rate.is_integer())
    if isinstance(rate, bool) or not number or not _RATES[0] <= rate <= _RATES[1]:
        raise InputError(f"{name} has a sampling rate of {rate!r}", hint="It is a whole number in Hz.", index=index)


def _mono(array: Any, name: str, index: int) -> NDArray[Any]:
    """An array as float samples [samples], its channels mixed."""
    if not isinstance(array, np.ndarray):
        try:
            array = np.asarray(array)
        except (ValueError, TypeError) as exc:
            raise InputError(f"{name} is not an array of numbers: {exc}", index=index) from exc
    if array.ndim == 2 and array.shape[0] <= min(_MOST_CHANNELS, max(array.shape[1], 1)):
        mixed: NDArray[Any] = _floats(array, name, index).mean(axis=0)
        return mixed
    if array.ndim != 1:
        turned = array.ndim == 2 and array.shape[1] <= _MOST_CHANNELS
        raise InputError(
            f"{name} is an array of the shape {list(array.shape)}",
            hint="Transpose it: it must be [channels, samples]." if turned else "It must be [samples].",
            index=index,
        )
    return _floats(array, name, index)


def _floats(array: NDArray[Any], name: str, index: int) -> NDArray[Any]:
    """float32 or float64 samples with a full scale of 1."""
    if array.dtype.kind == "f":
        return array.astype(np.float32) if array.dtype.itemsize < 4 else array
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128) / 128
    if array.dtype.kind == "i" and array.dtype.itemsize <= 4:
        scaled: NDArray[Any] = array / np.float32(2 ** (8 * array.dtype.itemsize - 1))
        return scaled
    raise InputError(
        f"{name} has samples of the type {array.dtype}",
        hint="Convert them to float32, with a full scale of 1.",
        index=index,
    )


def _decoded(opened: Any, sound: _Sound) -> Iterator[Samples]:
    """The blocks of a file of libsndfile."""
    length = opened.samplerate * _BLOCK_SECONDS
    with opened:
        read = 0
        while True:
            try:
                block = opened.read(length, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as exc:
                raise _unreadable(sound.name, sound.index, exc) from exc
            if not len(block):
                break
            read += len(block)
            yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
        if read < opened.frames and opened.format == "FLAC":
            raise sound.error(f"is cut off after {read / sound.rate:.2f} of {opened.frames / sound.rate:.2f} seconds")


def _check_whole(opened: Any, sound: _Sound) -> None:
    """Refuse a wav file that has less data than its header says."""
    found = re.search(r"^data : (\d+) \(should be (\d+)\)", opened.extra_info, re.MULTILINE)
    if found and int(found[2]) < int(found[1]) < _UNKNOWN_SIZE:
        raise sound.error(
            f"is cut off: it has {found[2]} of {found[1]} bytes of samples",
            hint="Copy it again; or write what is there to a new file, with sox or ffmpeg for instance.",
        )


def _check_length(seconds: float, sound: _Sound) -> None:
    """Refuse a sound beyond the limit of the process."""
    most = media_limits().seconds
    if most is not None and seconds > most:
        raise sound.error(
            f"is longer than {most:g} seconds, the most that are read here", hint="Send it in several parts."
        )


def _unreadable(name: str, index: int, exc: Any) -> InputError:
    reason = exc.error_string.strip().rstrip(".")
    return InputError(f"{name} cannot be read as a sound: {reason}", hint=_FORMATS, index=index)


def _blocks(sound: _Sound, rate: int) -> Iterator[Samples]:
    """The blocks of a sound at another rate, checked; none is empty."""
    stream = soxr.ResampleStream(sound.rate, rate, 1, dtype="float32", quality="HQ") if sound.rate != rate else None
    read = given = 0
    for block in sound.blocks:
        _check_finite(block, read, sound)
        read += len(block)
        _check_length(read / sound.rate, sound)  # the header may be wrong
        # of samples beyond the range of float32, soxr and graphs would get infinite ones
        plain = np.ascontiguousarray(block, dtype=np.float32)
        made = plain if stream is None else stream.resample_chunk(plain)
        given += len(made)
        if len(made):
            yield made
    if not read:
        raise sound.error("has no samples")
    if stream is not None:
        rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)
        given += len(rest)
        if len(rest):
            yield rest
    if not given:
        raise sound.error(f"has {read} samples at {sound.rate} Hz, which are none at {rate} Hz")


def _check_finite(block: NDArray[Any], start: int, sound: _Sound) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        fine = np.isfinite(block.astype(np.float32, copy=False))
    if not fine.all():
        place = int(np.argmin(fine))
        raise sound.error(
            f"has a sample that is not finite: {block[place]} at {start + place}",
            hint="numpy.nan_to_num(samples) replaces such samples.",
        )


def _regular(blocks: Iterator[Samples], length: int) -> Iterator[Samples]:
    """The same samples in blocks of equal lengths, but for the last."""
    waiting: list[Samples] = []
    have = 0
    for block in blocks:
        waiting.append(block)
        have += len(block)
        while have >= length:
            joined = np.concatenate(waiting)
            yield joined[:length]
            waiting, have = [joined[length:]], have - length
    if have:
        yield np.concatenate(waiting)
