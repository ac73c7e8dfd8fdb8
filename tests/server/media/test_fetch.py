"""What is fetched from a server that an attacker runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gpux.errors import GpuxError, InputError, TooLargeError
from gpux.server.media.addresses import is_public
from gpux.server.media.fetch import Fetcher
from tests.server.media.attacker import PICTURE, PLAIN, Attacker, attacking

MOST = 100_000


async def loopback(host: str, port: int) -> list[str]:
    """A resolver whose only name is that of the attacker's server."""
    return ["127.0.0.1"] if host == "media.example.com" else [host]


def fetcher(**more: object) -> Fetcher:
    """One that may connect to the attacker's server, as if it were public."""
    arguments: dict[str, object] = {"resolver": loopback, "allowed": lambda ip: ip == "127.0.0.1" or is_public(ip)}
    return Fetcher(MOST, 5.0, **{**arguments, **more})  # type: ignore[arg-type]


def run(test: Callable[[Attacker], Awaitable[None]]) -> None:
    """Run a test with an attacker's server."""

    async def whole() -> None:
        async with attacking() as attacker:
            await test(attacker)

    asyncio.run(whole())


async def refused(address: str, used: Fetcher | None = None) -> GpuxError:
    """The error of an address."""
    with pytest.raises(GpuxError) as caught:
        await (used or fetcher()).get(address)
    return caught.value


def test_a_picture_is_fetched_from_the_address_that_was_checked() -> None:
    async def test(attacker: Attacker) -> None:
        resolved = []

        async def count(host: str, port: int) -> list[str]:
            resolved.append(host)
            return ["127.0.0.1"] if len(resolved) == 1 else ["169.254.169.254"]  # rebinding

        assert await fetcher(resolver=count).get(attacker.answer("/a.png?b=c")) == PICTURE
        assert resolved == ["media.example.com"]
        [head] = attacker.requests
        assert f"host: media.example.com:{attacker.port}" in head.lower()
        assert "cookie" not in head.lower()
        assert "authorization" not in head.lower()

    run(test)


def test_redirects_are_checked_as_the_first_address() -> None:
    async def test(attacker: Attacker) -> None:
        picture = attacker.answer("/a.png")
        assert await fetcher().get(attacker.redirect("/once", picture)) == PICTURE
        assert await fetcher().get(attacker.redirect("/relative", "/a.png")) == PICTURE
        seen = len(attacker.requests)
        for number, location in enumerate(
            (
                "http://169.254.169.254/latest/meta-data/",
                "http://10.0.0.1/",
                "http://[::ffff:a9fe:a9fe]/",
                "http://2130706433/",
                "http://localhost/",
                "file:///etc/passwd",
                "http://media.example.com\\@10.0.0.1/",
                "http://user@media.example.com/",
                "//10.0.0.1/",
            )
        ):
            assert isinstance(await refused(attacker.redirect(f"/to{number}", location)), InputError), location
        assert len(attacker.requests) == seen + 9
        loop = attacker.redirect("/loop", "/loop")
        assert "redirects more than" in (await refused(loop)).message
        assert len(attacker.requests) == seen + 9 + 4

    run(test)


def test_a_body_is_limited_in_bytes_and_time() -> None:
    async def test(attacker: Attacker) -> None:
        large = attacker.answer("/large", body=bytes(MOST + 1))
        assert isinstance(await refused(large), TooLargeError)

        async def endless(writer: asyncio.StreamWriter) -> None:
            writer.write(f"{PLAIN}\r\n".encode())
            while not writer.is_closing():
                writer.write(bytes(10_000))
                await asyncio.sleep(0)
                await writer.drain()

        attacker.answers["/endless"] = lambda writer: asyncio.ensure_future(_quietly(endless(writer)))
        assert isinstance(await refused(attacker.at("/endless")), TooLargeError)
        attacker.answers["/silent"] = lambda writer: None
        quick = Fetcher(MOST, 0.3, resolver=loopback, allowed=lambda ip: True)
        assert "did not arrive" in (await refused(attacker.at("/silent"), quick)).message

    run(test)


async def _quietly(work: Awaitable[None]) -> None:
    try:
        await work
    except OSError:
        return


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 404 Not Found\r\ncontent-type: image/png\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-encoding: gzip\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n",
    ],
)
def test_anything_but_a_plain_picture_or_sound_is_refused_in_fixed_words(head: str) -> None:
    async def test(attacker: Attacker) -> None:
        error = await refused(attacker.answer("/secret-path", head, b"the secret of the intranet"))
        assert isinstance(error, InputError)
        for part in ("secret", "SSH", "media.example.com", str(attacker.port)):
            assert part not in error.message

    run(test)


def test_a_port_where_nothing_listens_has_no_reason() -> None:
    async def test(attacker: Attacker) -> None:
        error = await refused("http://media.example.com:1025/")
        assert error.message == "an address in the request cannot be fetched"

    run(test)
