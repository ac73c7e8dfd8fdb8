"""Sounds in containers that libsndfile does not read: mp4, m4a, mov, webm and mkv, by PyAV where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import InputError

#: Bytes that :func:`is_container` reads.
HEAD = 12
_EBML = b"\x1a\x45\xdf\xa3"  #: first bytes of webm and mkv


def is_container(head: bytes) -> bool:
    """Whether the first :data:`HEAD` bytes are those of ISO base media (mp4, m4a, mov) or Matroska (webm, mkv)."""
    return head[4:8] == b"ftyp" or head.startswith(_EBML)


def container_blocks(file: str | IO[bytes], name: str, index: int) -> tuple[int, Iterator[NDArray[np.float32]]]:
    """The rate in Hz of the first sound of a container, and its blocks: mono float32 [samples].

    Raises:
        InputError: PyAV is not installed, the container cannot be read, or it has no sound.
    """
    if importlib.util.find_spec("av") is None:
        raise InputError(
            f"{name} is an mp4 or webm file, which needs PyAV",
            hint="Install it: pip install av. Or convert the file: ffmpeg -i FILE sound.wav",
            index=index,
        )
    import av

    try:
        container = av.open(file, mode="r")
    except (av.FFmpegError, ValueError) as exc:
        raise _unreadable(exc, name, index) from exc
    if not container.streams.audio:
        container.close()
        raise InputError(f"{name} has no sound in it", index=index)
    rate = int(container.streams.audio[0].rate or 0)
    return rate, _blocks(container, name, index)


def _blocks(container: Any, name: str, index: int) -> Iterator[NDArray[np.float32]]:
    import av

    planar = av.AudioResampler(format="fltp")  # the sample format alone: rate and channels stay
    try:
        with container:
            for frame in container.decode(audio=0):
                for made in planar.resample(frame):
                    yield made.to_ndarray().mean(axis=0, dtype=np.float32)
    except av.FFmpegError as exc:
        raise _unreadable(exc, name, index) from exc


def _unreadable(exc: Exception, name: str, index: int) -> InputError:
    reason = getattr(exc, "strerror", None) or str(exc)
    return InputError(f"{name} cannot be read as a sound: {reason}", index=index)
