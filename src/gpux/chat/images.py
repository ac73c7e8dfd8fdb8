"""Pictures of messages, recognized by their first bytes: names and types that a client states are not trusted."""

from __future__ import annotations

from gpux.chat.values import Image
from gpux.errors import InputError

#: (first bytes, bytes from the ninth one on) -> media type
_KINDS: tuple[tuple[bytes, bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", b"", "image/png"),
    (b"\xff\xd8\xff", b"", "image/jpeg"),
    (b"GIF87a", b"", "image/gif"),
    (b"GIF89a", b"", "image/gif"),
    (b"RIFF", b"WEBP", "image/webp"),
    (b"BM", b"", "image/bmp"),
)


def image(data: bytes, number: int) -> Image:
    """A picture.

    Args:
        data: the file.
        number: of the picture in its message, from 0, for the error.

    Raises:
        InputError: it is not a picture of a known kind.
    """
    for first, ninth, media_type in _KINDS:
        if data.startswith(first) and data[8:].startswith(ninth):
            return Image(data=data, media_type=media_type)
    raise InputError(
        f"image {number} is not a picture of a known kind",
        hint="Send PNG, JPEG, GIF, WebP or BMP.",
        param="images",
        index=number,
    )
