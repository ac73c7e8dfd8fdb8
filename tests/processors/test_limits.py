"""Limits of a process hold before pictures and sounds are decoded."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
from PIL import Image

from gpux.errors import InputError
from gpux.processors.audio.load import load_sound
from gpux.processors.image.load import load_frames, load_image
from gpux.processors.limits import MediaLimits, media_limits, set_media_limits


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    before = media_limits()
    set_media_limits(MediaLimits(pixels=64 << 20, frames=1000, seconds=2.0))
    yield
    set_media_limits(before)


def png(width: int, height: int) -> bytes:
    """A file whose header promises that many pixels; it has none."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, data in ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b"")):
        parts += [struct.pack(">I", len(data)), name, data, struct.pack(">I", zlib.crc32(name + data))]
    return b"".join(parts)


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (10_000, 10_000)])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(width: int, height: int) -> None:
    with pytest.raises(InputError, match="pixels"):
        load_image(png(width, height))


def test_an_animation_of_too_many_frames_is_refused() -> None:
    frames = [Image.new("L", (1, 1), number % 2 * 255) for number in range(1_100)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    for read in (load_image, load_frames):
        with pytest.raises(InputError, match="more than 1000 frames"):
            read(file.getvalue())


def test_a_sound_that_is_too_long_is_refused() -> None:
    def wav(seconds: float) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, np.zeros(int(seconds * 8000), np.float32), 8000, format="WAV")
        return file.getvalue()

    assert len(load_sound(wav(2.0), 8000)) == 16_000
    for sound in (wav(2.1), {"array": np.zeros(20_000, np.float32), "sampling_rate": 8000}):
        with pytest.raises(InputError, match="longer than 2 seconds"):
            load_sound(sound, 8000)
