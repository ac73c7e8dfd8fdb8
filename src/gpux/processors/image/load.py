"""Opens pictures: from a path, bytes, a file object, a PIL image or an array; upright, in RGB, over white.

Equal to ``transformers.image_utils.load_image`` for opaque pictures of 8 bits. Two kinds differ on purpose: transparent
parts become white here (there, the colour that the file hides under them), and 16-bit grey keeps its high byte (there,
values above 255 become white).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gpux.download.address import is_address, read_address
from gpux.errors import GpuxError, InputError
from gpux.processors.limits import media_limits

#: What :func:`load_image` accepts. A text is a path, a ``data:`` URI or base64, and an http(s) address where asked for.
#: An array is [height, width] or [height, width, 1 to 4 channels]: uint8, bool, uint16 (its high byte is used), or
#: floats from 0 to 1.
ImageInput = str | Path | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[Any]

#: The largest picture that is decoded: Pillow's own limit, at 3 bytes a pixel 512 MB.
MOST_PIXELS = 178_956_970

_TYPES = (str, os.PathLike, bytes, bytearray, memoryview, io.IOBase, Image.Image, np.ndarray)


def is_image_input(value: Any) -> bool:
    """Whether a value is one picture (rather than an iterable of them) by its type."""
    return isinstance(value, _TYPES) or hasattr(value, "read")


def load_image(image: ImageInput, index: int = 0, *, allow_urls: bool = False) -> Image.Image:
    """A picture in RGB, turned as its EXIF orientation says, over white where it is transparent.

    Of an animated file, the first frame; no other is decoded.

    Args:
        image: see :data:`ImageInput`.
        index: its place among several inputs, for errors.
        allow_urls: whether a text may be an http or https address, which is fetched.

    Raises:
        InputError: it cannot be read as a picture; ``details`` have its ``index``.
    """
    with name_errors(image, index), _opened(image, allow_urls) as opened:
        return _rgb(_upright(opened))


def load_frames(
    video: Any, count: int | None = None, index: int = 0, *, places: Sequence[int] | None = None
) -> list[Image.Image]:
    """Frames of a moving picture in RGB.

    Args:
        video: an animated file (GIF, WebP, PNG, TIFF), an array [frames, height, width, 3], or a sequence of pictures.
        count: how many, evenly spaced from the first to the last; None for all. Only these are kept.
        index: its place among several inputs, for errors.
        places: of the frames, in place of ``count``; 0 is the first.

    Raises:
        InputError: it cannot be read, or has no frames, or too few of them.
    """
    with name_errors(video, index), _hint_of_frames():
        if isinstance(video, (list, tuple)) or (isinstance(video, np.ndarray) and video.ndim == 4):
            return [load_image(video[place], index) for place in _places(len(video), count, places)]
        with _opened(video, allow_urls=False) as opened:
            found = []
            for place in _places(getattr(opened, "n_frames", 1), count, places):
                opened.seek(place)
                found.append(_rgb(opened.copy()))
            return found


@contextlib.contextmanager
def _hint_of_frames() -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as exc:
        raise InputError(
            "is not a moving picture that Pillow reads",
            hint="Pass a GIF, WebP or PNG file, or the frames of the video as a list of pictures or an array [frames, "
            "height, width, 3]; PyAV and ffmpeg decode mp4 and the like to frames.",
        ) from exc


def _places(length: int, count: int | None, places: Sequence[int] | None) -> Sequence[int]:
    if length == 0:
        raise InputError("has no frames", hint="Pass the frames of a video as a list of pictures.")
    if places is not None:
        if places and max(places) >= length:
            number = "1 frame" if length == 1 else f"{length} frames"
            raise InputError(
                f"has {number}, and {max(places) + 1} are needed",
                hint="Pass more frames, or a smaller frame_sampling_rate.",
            )
        return places
    return range(length) if count is None else [int(place) for place in np.linspace(0, length - 1, count)]


def _name(image: Any, index: int) -> str:
    if isinstance(image, (str, os.PathLike)) and not str(image).startswith("data:"):
        text = os.fspath(image)
        return f"picture {index} ({text if len(text) <= 120 else text[:117] + '...'})"
    return f"picture {index}"


@contextlib.contextmanager
def name_errors(image: Any, index: int) -> Iterator[None]:
    """Raise the errors of opening and preparing a picture as InputErrors that name it.

    Args:
        image: what was given: a path is named.
        index: its place among several inputs.

    Raises:
        InputError: with the picture's name in front; ``details`` have its ``index``.
    """
    name = _name(image, index)
    try:
        yield
    except GpuxError as exc:
        if not isinstance(exc, InputError) or exc.message.startswith(name):
            raise
        details = {"index": index} | exc.details
        joint = ": " if exc.message.startswith("a ") else " "
        raise InputError(f"{name}{joint}{exc.message}", hint=exc.hint, **details) from exc
    except UnidentifiedImageError as exc:
        hint = "Pass a JPEG, PNG, WebP, GIF, BMP or TIFF file; `python -m PIL --help` lists what Pillow reads."
        raise InputError(f"{name} is not a picture in a format that Pillow reads", hint=hint, index=index) from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:  # warnings may be errors
        raise InputError(f"{name} {_TOO_LARGE}", hint=_TOO_LARGE_HINT, index=index) from exc
    except MemoryError as exc:
        raise InputError(f"{name} needs more memory than is available", hint=_TOO_LARGE_HINT, index=index) from exc
    except OSError as exc:
        if exc.errno is None:  # Pillow's own: truncated, broken data stream
            raise InputError(f"{name} cannot be read: {exc}", hint=_DAMAGED, index=index) from exc
        raise InputError(f"{name} cannot be opened: {exc.strerror or exc}", index=index) from exc
    except Exception as exc:  # Pillow's decoders raise many types on damaged files
        reason = str(exc) or type(exc).__name__
        raise InputError(f"{name} cannot be read: {reason}", hint=_DAMAGED, index=index) from exc


_TOO_LARGE = f"has more than {MOST_PIXELS:,} pixels, the most that gpux decodes"
_TOO_LARGE_HINT = "Make it smaller with a tool that reads it in parts, such as `vipsthumbnail`, or cut it into tiles."
_DAMAGED = "The file is damaged or incomplete: open it with another program, and save or download it again."


@contextlib.contextmanager
def _opened(image: Any, allow_urls: bool) -> Iterator[Image.Image]:
    """A picture as Pillow opens it, its pixels not decoded yet; its file is open within the context."""
    if isinstance(image, Image.Image):
        yield image
        return
    if isinstance(image, np.ndarray):
        yield _from_array(image)
        return
    if isinstance(image, str):
        image = _from_text(image, allow_urls)
    if isinstance(image, os.PathLike):
        _check_file(Path(image))
        with Path(image).open("rb") as file:
            yield _identified(file)
    elif isinstance(image, (bytes, bytearray, memoryview)):
        yield _identified(io.BytesIO(image))
    elif hasattr(image, "read"):
        content = image.read()
        if not isinstance(content, bytes):
            raise InputError("was opened as text", hint='Open the file with mode "rb".')
        yield _identified(io.BytesIO(content))
    else:
        raise InputError(
            f"is of type {type(image).__name__}",
            hint="Pass a path, bytes, a file object, a PIL image or a numpy array.",
        )


def _identified(file: BinaryIO) -> Image.Image:
    if isinstance(file, io.BytesIO) and not file.getbuffer().nbytes:
        raise InputError("is empty (0 bytes)", hint="Rewind a file object with seek(0) before it is read again.")
    opened: Image.Image = Image.open(file)
    if opened.format == "EPS":  # Pillow gives such a file, which is a program, to Ghostscript
        raise InputError("is a PostScript program, which gpux does not run", hint="Convert it to PNG.")
    if opened.width * opened.height > MOST_PIXELS:
        raise InputError(f"({opened.width} x {opened.height}) {_TOO_LARGE}", hint=_TOO_LARGE_HINT)
    _check_limits(opened)
    return opened


def _check_limits(opened: Image.Image) -> None:
    """Refuse a picture beyond the limits of the process, by its header."""
    limits = media_limits()
    if limits.pixels is not None and opened.width * opened.height > limits.pixels:
        raise InputError(
            f"({opened.width} x {opened.height}) has more than {limits.pixels:,} pixels, the most that are read here",
            hint="Make it smaller.",
        )
    if limits.frames is not None and getattr(opened, "is_animated", False) and _frames(opened) > limits.frames:
        raise InputError(
            f"has more than {limits.frames} frames, the most that are read here",
            hint="Send fewer frames, or a picture of one frame.",
        )


def _frames(opened: Image.Image) -> int:
    """The number of frames, for which no frame is decoded."""
    return int(getattr(opened, "n_frames", 1))


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InputError("is a folder", hint="Pass the files in it, for example sorted(Path(folder).glob('*.jpg')).")
    if not path.exists():
        raise InputError("does not exist", hint=f"Check the path; the working folder is {Path.cwd()}.")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError("is empty (0 bytes)", hint="Download or save the file again.")


def _from_text(text: str, allow_urls: bool) -> bytes | Path:
    if is_address(text):
        if allow_urls:
            return read_address(text)
        raise InputError(
            "is an address, which is fetched only when asked for",
            hint="Open the pipeline with allow_urls=True, or download the file and pass its path.",
        )
    if text.startswith("data:"):
        header, comma, content = text.partition(",")
        if not (comma and header.endswith(";base64")):
            raise InputError("is a data: URI without base64", hint="Write it as data:image/png;base64,…")
        return _decoded(content)
    path = Path(text)
    with contextlib.suppress(OSError, ValueError):  # base64 is too long for a path, or not one
        if path.exists():
            return path
    if len(text) > 64 and not path.suffix:
        with contextlib.suppress(InputError):
            return _decoded(text)
    if "\0" in text:
        raise InputError("has a zero byte in its path")
    return path


def _decoded(content: str) -> bytes:
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except binascii.Error as exc:
        raise InputError(f"is not valid base64: {exc}") from exc


def _from_array(array: NDArray[Any]) -> Image.Image:
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] > 4):
        hint = "Arrays are [height, width] or [height, width, channels] with 1 to 4 channels."
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint += " Move the channels to the end: array.transpose(1, 2, 0)."
        elif array.ndim == 4:
            hint += " Pass several pictures as a list: list(array)."
        raise InputError(f"is an array of shape {list(array.shape)}", hint=hint)
    pixels = np.ascontiguousarray(_bytes_of(array))
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Values from 0 to 255."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating) and np.all((array >= 0) & (array <= 1)):  # False for NaN
        return np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    if np.issubdtype(array.dtype, np.integer) and np.all((array >= 0) & (array <= 255)):
        return array.astype(np.uint8)
    wanted = "0 to 1" if np.issubdtype(array.dtype, np.floating) else "0 to 255"
    raise InputError(
        f"has values of {array.dtype} outside {wanted}",
        hint="Pass uint8 from 0 to 255, or floats from 0 to 1 without NaN.",
    )


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - damaged EXIF data raise many types; the picture itself may be whole
        image.load()
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_grey(image)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        above = image.convert("RGBA")
        if above.getchannel("A").getextrema() != (255, 255):
            white = Image.new("RGBA", above.size, (255, 255, 255, 255))
            return Image.alpha_composite(white, above).convert("RGB")
        return above.convert("RGB")
    return image.convert("RGB")


def _grey(image: Image.Image) -> NDArray[np.uint8]:
    """Bytes of a grey picture of more than 8 bits."""
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        return (values.astype(np.uint16) >> 8).astype(np.uint8)
    if image.mode == "I" and values.min() >= 0 and 255 < values.max() <= 65535:
        return (values >> 8).astype(np.uint8)
    return _bytes_of(values)
