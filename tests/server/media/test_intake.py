"""Pictures and sounds in requests: data URLs, base64, bytes, and addresses where they are off."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from gpux.errors import GpuxError, InputError, TooLargeError, UsageError
from gpux.server.media.intake import Media
from gpux.server.settings import ServerSettings

DATA = bytes(range(256))
TEXT = base64.b64encode(DATA).decode()


def read(given: str | bytes, **settings: Any) -> bytes:
    return asyncio.run(Media(ServerSettings(**settings)).read(given, "url"))


def test_a_file_is_read_in_every_form() -> None:
    for given in (DATA, TEXT, f"data:image/png;base64,{TEXT}", f"DATA:audio/wav;codecs=1;BASE64,{TEXT}"):
        assert read(given) == DATA
    assert read("data:;base64,AAAA") == bytes(3)


@pytest.mark.parametrize(
    "given",
    [
        b"",
        "",
        "data:image/png;base64,",
        "data:image/png;base64",
        "data:image/png,plain",
        "data:image/png;base64,AAA",  # no padding
        "data:image/png;base64,AAA==",
        "data:image/png;base64,AA==AA==",
        "data:image/png;base64,AAAA\n",
        "data:image/png;base64,AA%3D%3D",
        "data:image/png;base64,ÄAAA",
        "/etc/passwd.png",
        "file:///etc/passwd",
        "~/.ssh/id_rsa",
    ],
)
def test_anything_else_is_refused(given: str | bytes) -> None:
    with pytest.raises(InputError) as caught:
        read(given)
    assert caught.value.details["param"] == "url"
    assert "passwd" not in str(caught.value)


def test_the_size_is_checked_before_anything_is_decoded() -> None:
    assert read(TEXT, max_media=len(DATA)) == DATA
    for given in (TEXT, DATA, f"data:image/png;base64,{TEXT}", "data:image/png;base64," + "?" * 400):
        with pytest.raises(TooLargeError):
            read(given, max_media=len(DATA) - 3)


def test_addresses_are_not_fetched_unless_the_server_allows_it() -> None:
    for given in ("http://example.com/a.png", "HTTPS://example.com/", "http://169.254.169.254/latest/meta-data/"):
        with pytest.raises(UsageError, match="fetches no addresses") as caught:
            read(given)
        assert "--allow-media-urls" in str(caught.value.hint)
    with pytest.raises(GpuxError, match="not on the public internet"):
        read("http://169.254.169.254/latest/meta-data/", allow_media_urls=True)


def test_the_number_of_files_is_limited() -> None:
    media = Media(ServerSettings(max_files=2))
    media.check_count(2)
    with pytest.raises(TooLargeError):
        media.check_count(3, "messages")
