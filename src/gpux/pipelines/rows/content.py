"""What a file holds, by its first bytes and never by its name.

The signatures are those of the formats' specifications; `file(1)` has the same.
"""

from __future__ import annotations

from pathlib import Path

from gpux.errors import InputError
from gpux.pipelines.base import Kind

#: Bytes of a file that are read to recognise it.
HEAD = 32

_IMAGES = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"II*\x00",
    b"MM\x00*",
    b"BM",
    b"\x00\x00\x00\x0cJXL \r\n\x87\n",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n",
    b"\xff\x0a",
    b"\x00\x00\x01\x00",
    b"8BPS",
    b"qoif",
)
_SOUNDS = (b"fLaC", b"OggS", b"ID3", b"FORM", b".snd", b"caff", b"RF64", b"MThd")
#: The kind of a container by the four bytes of its form.
_RIFF: dict[bytes, Kind] = {b"WAVE": "audio", b"WEBP": "image", b"AVI ": "video"}
_BRANDS: dict[bytes, Kind] = {b"avif": "image", b"avis": "image", b"heic": "image", b"mif1": "image", b"M4A ": "audio"}
_WHAT: dict[Kind, str] = {"image": "a picture", "audio": "a sound", "video": "a video", "text": "a text"}


def kind_of(head: bytes) -> Kind | None:
    """What a file with these first :data:`HEAD` bytes holds; None for a text and everything unknown."""
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video")
    if head.startswith(_IMAGES) and not (head[:2] == b"BM" and head[6:10] != b"\0\0\0\0"):
        return "image"
    if head[:1] in b"P" and head[1:2] in b"123456" and head[2:3] in b" \t\r\n" and len(head) > 2:  # netpbm
        return "image"
    if head.startswith(_SOUNDS) or _is_mpeg_frame(head):
        return "audio"
    return "video" if head.startswith(b"\x1aE\xdf\xa3") else None


def _is_mpeg_frame(head: bytes) -> bool:
    """Whether these are 11 set bits and layer II or III; the byte order mark of UTF-16 looks like layer I."""
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 6 in (2, 4)


def read_kind(file: Path) -> Kind | None:
    """What a file holds, see :func:`kind_of`.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        return kind_of(opened.read(HEAD))


def check_bytes(content: bytes, takes: Kind, name: str) -> bytes:
    """The content of an input, where it is what the task takes.

    Raises:
        InputError: it is empty, or something else.
    """
    wanted = _WHAT[takes]
    found = kind_of(content[:HEAD])
    if not content:
        raise InputError(f"{name} is empty, and {wanted} is expected", path=name)
    also = {"audio": "video", "video": "image"}.get(takes)  # the sound of a video; a moving picture
    if found is None or found not in (takes, also):
        holds = "something else, perhaps a text" if found is None else _WHAT[found]
        raise InputError(
            f"{name} is not {wanted}: its content is {holds}", hint=f"Pass the path of {wanted}.", path=name
        )
    return content


def check_file(file: Path, takes: Kind) -> Path:
    """The path of an input, where the file holds what the task takes.

    Raises:
        InputError: no such file, a folder, an empty file, or a file that holds something else, whatever its name.
    """
    wanted = _WHAT[takes]
    try:
        if file.is_dir():
            raise InputError(
                f"{file} is a folder, and {wanted} is expected",
                hint="Pass the folder with --input to answer every file in it.",
                path=str(file),
            )
        with file.open("rb") as opened:
            head = opened.read(HEAD)
    except FileNotFoundError as exc:
        raise InputError(f"{file} does not exist", hint=f"Pass the path of {wanted}.", path=str(file)) from exc
    except (OSError, ValueError) as exc:  # no permission; a name with a zero byte
        raise InputError(f"{file} cannot be read: {exc}", path=str(file)) from exc
    check_bytes(head, takes, str(file))
    return file
