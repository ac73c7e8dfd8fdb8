"""Pictures are opened from every kind of input; what cannot be read is an InputError that names the input."""

from __future__ import annotations

import base64
import io
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpux.errors import InputError
from gpux.processors.image.load import is_image_input, load_frames, load_image, name_errors
from gpux.processors.image.processor import make_image_processor


def _picture(width: int = 12, height: int = 8) -> Image.Image:
    rng = np.random.default_rng(3)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def _saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


PICTURE = _picture()
PIXELS = np.asarray(PICTURE)
PNG = _saved(PICTURE)


@pytest.mark.parametrize(
    "given",
    [
        PNG,
        bytearray(PNG),
        memoryview(PNG),
        io.BytesIO(PNG),
        PICTURE,
        PIXELS,
        PIXELS.astype(np.int64),
        PIXELS.astype(np.float32) / 255,
        PIXELS.astype(np.uint16) << 8,
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
        base64.b64encode(PNG).decode(),
    ],
    ids=lambda given: type(given).__name__,
)
def test_each_kind_of_input_gives_the_same_picture(given: Any) -> None:
    """Bytes, file objects, PIL images, arrays, base64."""
    assert is_image_input(given)
    found = load_image(given)
    assert found.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), PIXELS)


def test_paths_are_text_or_path_objects(tmp_path: Path) -> None:
    """The ending of a name does not matter."""
    file = tmp_path / "picture.jpg"
    file.write_bytes(PNG)
    for given in (file, str(file)):
        np.testing.assert_array_equal(np.asarray(load_image(given)), PIXELS)
    with file.open("rb") as stream:
        np.testing.assert_array_equal(np.asarray(load_image(stream)), PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_says(orientation: int) -> None:
    """All eight orientations, by their definition: where row 0 and column 0 of the file are."""
    turn: dict[int, Callable[[Any], Any]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = np.asarray(load_image(_saved(PICTURE, exif=exif.tobytes())))
    np.testing.assert_array_equal(found, turn[orientation](PIXELS))


def test_damaged_exif_does_not_lose_the_picture() -> None:
    """The pixels are whole."""
    found = load_image(_saved(PICTURE, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"))
    np.testing.assert_array_equal(np.asarray(found), PIXELS)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB"])
def test_transparent_parts_become_white(mode: str) -> None:
    """Alpha channels, and a transparent colour of palettes, grey and RGB."""
    if mode in ("RGBA", "LA"):
        image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
        image.putpixel((1, 0), (0, 0, 0, 255))
        image = image.convert("LA") if mode == "LA" else image
        content = _saved(image)
    else:
        image = Image.new("RGB", (2, 1), (9, 9, 9))
        image.putpixel((1, 0), (0, 0, 0))
        image = image.convert(mode) if mode != "P" else image.quantize(2)
        value: Any = image.getpixel((0, 0))
        content = _saved(image, transparency=value)
    found = np.asarray(load_image(content))
    np.testing.assert_array_equal(found, [[[255] * 3, [0] * 3]])


def test_half_transparent_parts_are_mixed_with_white() -> None:
    """A fifth of black over white is 204."""
    np.testing.assert_array_equal(np.asarray(load_image(Image.new("RGBA", (1, 1), (0, 0, 0, 51)))), [[[204] * 3]])


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB"])
def test_opaque_modes_become_rgb_as_pillow_converts_them(mode: str) -> None:
    """As transformers' load_image."""
    image = PICTURE.convert("RGB").convert(mode) if mode != "LAB" else Image.new("LAB", (3, 2), (120, 90, 200))
    np.testing.assert_array_equal(np.asarray(load_image(image)), np.asarray(image.convert("RGB")))


def test_sixteen_bits_of_grey_keep_their_high_byte() -> None:
    """Not clipped to white, which Pillow's own conversion does."""
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    for given in (_saved(Image.fromarray(values)), _saved(Image.fromarray(values), "TIFF"), Image.fromarray(values)):
        np.testing.assert_array_equal(np.asarray(load_image(given))[0, :, 0], [0, 0, 1, 128, 255])
    wide = Image.fromarray(values.astype(np.int32))
    np.testing.assert_array_equal(np.asarray(load_image(wide))[0, :, 0], [0, 0, 1, 128, 255])
    floats = Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32))
    np.testing.assert_array_equal(np.asarray(load_image(floats))[0, :, 0], [0, 128, 255])


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_a_moving_picture_is_used(kind: str) -> None:
    """And load_frames gives the others."""
    frames = [Image.new("RGB", (6, 4), (shade, 0, 0)) for shade in (250, 120, 10, 60)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = _saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert np.asarray(load_image(content))[0, 0, 0] == 250
    reds = [int(np.asarray(frame)[0, 0, 0]) for frame in load_frames(content)]
    assert reds == [250, 120, 10, 60]
    assert [int(np.asarray(frame)[0, 0, 0]) for frame in load_frames(content, 2)] == [250, 60]
    assert len(load_frames(np.stack([np.asarray(frame) for frame in frames]), 3)) == 3


def test_a_gif_of_10000_frames_is_not_decoded_beyond_its_first() -> None:
    """The frames after the first are damaged, which a decoder would notice."""
    frame = _saved(Image.new("P", (1, 1)), "GIF")
    start = frame.index(b",")
    content = frame[:-1] + b"," + b"\xff" * 40 + frame[start:-1] * 10_000 + b";"
    assert load_image(content).size == (1, 1)


def test_one_pixel_is_a_picture() -> None:
    """The smallest one."""
    assert load_image(_saved(_picture(1, 1))).size == (1, 1)


def _bomb() -> bytes:
    """A PNG header of 20,000 x 20,000; nothing is decoded before its size is known."""
    content = bytearray(PNG)
    content[16:24] = (20_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def _id(value: object) -> str:
    """The same in every process: no address of an object."""
    return str(value)[:40] if isinstance(value, str | int | Path | None) else type(value).__name__


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (b"", "is empty"),
        (b"just text", "not a picture in a format"),
        (io.BytesIO(b""), "is empty"),
        (io.StringIO("text"), "opened as text"),
        (PNG[: len(PNG) // 2], "cannot be read"),
        (_saved(_picture(64, 64), "JPEG")[:700], "truncated"),
        (_saved(_picture(), "EPS"), "PostScript"),
        (_bomb(), "pixels, the most that gpux decodes"),
        ("data:image/png,abc", "without base64"),
        ("data:image/png;base64,****", "not valid base64"),
        ("https://example.invalid/a.png", "only when asked for"),
        ("nowhere.png", "does not exist"),
        (".", "is a folder"),
        ("a\0b", "zero byte"),
        (Path("nowhere.png"), "does not exist"),
        (7, "type int"),
        (None, "type NoneType"),
        (np.zeros((3, 8, 9), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((2, 8, 9, 3), np.uint8), "as a list"),
        (np.zeros((0, 4), np.uint8), "shape"),
        (np.zeros(4, np.uint8), "shape"),
        (np.full((2, 2), np.nan), "without NaN"),
        (np.full((2, 2), 200.0), "outside 0 to 1"),
        (np.full((2, 2), -1), "outside 0 to 255"),
        (np.full((2, 2), 1j), "complex128"),
        (np.array([["a"]]), "outside"),
    ],
    ids=_id,
)
def test_what_is_not_a_picture_is_named(
    given: Any, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its place and, where it has one, its path."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="picture 4") as found:
        load_image(given, 4)
    text = f"{found.value} {found.value.hint}"
    assert re.search(reason, text), text
    assert found.value.details["index"] == 4
    if isinstance(given, (str, Path)) and not str(given).startswith("data:"):
        assert str(given) in str(found.value)


def test_a_text_file_with_the_name_of_a_picture_is_refused(tmp_path: Path) -> None:
    """By its content."""
    file = tmp_path / "text.png"
    file.write_text("hello")
    with pytest.raises(InputError, match=r"text\.png.*not a picture"):
        load_image(file)


def test_errors_of_a_processor_name_the_picture() -> None:
    """Its place and its path."""
    shrink = make_image_processor("GLPNImageProcessor", {})
    reason = r"picture 5 \(a/b\.png\): a picture of 9 x 9 .* leaves no pixels"
    with pytest.raises(InputError, match=reason) as found, name_errors("a/b.png", 5):
        shrink(_picture(9, 9))
    assert found.value.details["index"] == 5


@pytest.fixture
def address() -> Iterator[str]:
    """A server of one picture, a redirect to it, and a refusal."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/picture.png")
                self.end_headers()
            elif self.path == "/picture.png":
                self.send_response(200)
                self.send_header("Content-Length", str(len(PNG)))
                self.end_headers()
                self.wfile.write(PNG)
            else:
                self.send_error(404)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_addresses_are_fetched_where_allowed(address: str) -> None:
    """With redirects; a refusal names the address."""
    for path in ("/picture.png", "/moved"):
        np.testing.assert_array_equal(np.asarray(load_image(address + path, allow_urls=True)), PIXELS)
    with pytest.raises(InputError, match=r"picture 2 .*/none.* 404"):
        load_image(address + "/none", 2, allow_urls=True)
    with pytest.raises(InputError, match="picture 0"):
        load_image("http://127.0.0.1:9/none", allow_urls=True)
