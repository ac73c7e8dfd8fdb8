"""What is fetched from a server that an attacker runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gpux.errors import DeadlineError, GpuxError, InputError, TooLargeError
from gpux.server.media.addresses import is_public
from gpux.server.media.fetch import CONNECTIONS, Fetcher
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
        late = await refused(attacker.at("/silent"), quick)
        assert isinstance(late, DeadlineError)
        assert late.message == "an address in the request did not arrive within 0.3 seconds"

    run(test)


def whole(body: bytes = PICTURE) -> bytes:
    """A whole response with a picture."""
    return f"{PLAIN}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


def test_the_addresses_of_a_request_are_fetched_at_the_same_time() -> None:
    async def test(attacker: Attacker) -> None:
        all_arrived = asyncio.Barrier(CONNECTIONS)

        async def answer(writer: asyncio.StreamWriter) -> None:  # only when every address was requested
            await all_arrived.wait()
            writer.write(whole())

        for number in range(CONNECTIONS):
            attacker.answers[f"/{number}"] = answer
        addresses = {f"inputs[{number}]": attacker.at(f"/{number}") for number in range(CONNECTIONS)}
        patient = Fetcher(MOST, 600.0, resolver=loopback, allowed=lambda ip: True)
        found = await patient.get_all(addresses, MOST)
        assert found == dict.fromkeys(addresses, PICTURE)
        assert list(found) == list(addresses)

    run(test)


def test_a_request_has_a_limited_number_of_connections_and_one_deadline() -> None:
    async def test(attacker: Attacker) -> None:
        attacker.answers["/silent"] = lambda writer: None
        addresses = {f"inputs[{number}]": attacker.at("/silent") for number in range(3 * CONNECTIONS)}
        quick = Fetcher(MOST, 0.5, resolver=loopback, allowed=lambda ip: True)
        with pytest.raises(DeadlineError, match="the addresses in the request did not arrive within") as caught:
            await quick.get_all(addresses, MOST)
        assert "param" not in caught.value.details
        assert len(attacker.requests) <= CONNECTIONS  # a deadline of each address would have let the others begin

    run(test)


def test_one_address_that_fails_ends_the_others() -> None:
    async def test(attacker: Attacker) -> None:
        left = asyncio.Event()

        async def wait_for_the_end(writer: asyncio.StreamWriter) -> None:
            page = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
            refuse.set_result(page)
            while not writer.is_closing():
                writer.write(b" ")
                await asyncio.sleep(0.01)
                try:
                    await writer.drain()
                except OSError:
                    break
            left.set()

        async def fail(writer: asyncio.StreamWriter) -> None:
            writer.write(await refuse)

        refuse: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def begin(writer: asyncio.StreamWriter) -> None:
            writer.write(f"{PLAIN}content-length: 50000\r\n\r\n".encode())
            await wait_for_the_end(writer)

        attacker.answers |= {"/slow": begin, "/missing": fail}
        addresses = {"inputs[0]": attacker.at("/slow"), "inputs[1]": attacker.at("/missing")}
        patient = Fetcher(MOST, 600.0, resolver=loopback, allowed=lambda ip: True)
        with pytest.raises(InputError, match="status 404") as caught:
            await patient.get_all(addresses, MOST)
        assert caught.value.details["param"] == "inputs[1]"
        await left.wait()

    run(test)


def test_the_bodies_of_a_request_have_a_limit_together() -> None:
    async def test(attacker: Attacker) -> None:
        body = bytes(MOST // 2)
        addresses = {f"inputs[{number}]": attacker.answer(f"/{number}", body=body) for number in range(2)}
        assert sum(map(len, (await fetcher().get_all(addresses, MOST)).values())) == MOST
        for limit, used in ((MOST - 1, 0), (MOST, 1)):
            with pytest.raises(TooLargeError, match=f"more than {limit} bytes together"):
                await fetcher().get_all(addresses, limit, used)

    run(test)


def test_no_address_is_fetched_where_one_is_refused() -> None:
    async def test(attacker: Attacker) -> None:
        addresses = {"inputs[0]": attacker.answer("/a"), "inputs[1]": "http://localhost/"}
        with pytest.raises(InputError, match="not on the public internet") as caught:
            await fetcher().get_all(addresses, MOST)
        assert caught.value.details["param"] == "inputs[1]"
        assert attacker.requests == []

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
