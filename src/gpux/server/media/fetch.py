"""Fetches a picture or a sound from an address that a client gave, without reaching what only this machine can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from gpux.errors import InputError, TooLargeError
from gpux.server.media.addresses import Resolver, checked_ip, host_of, is_public, parse_address, resolve

if TYPE_CHECKING:
    import httpx2

#: Redirects that are followed, each to an address that is checked as the first one.
REDIRECTS = 3
_HINT = "Check it in a browser, or send the file itself in base64."
#: Beginnings of the types that are read.
_KINDS = ("image/", "audio/", "video/", "application/octet-stream", "binary/octet-stream", "application/ogg")


class Fetcher:
    """Gets the bytes at addresses; each request has a connection of its own, without proxies, cookies and credentials.

    Args:
        most: bytes of one body.
        seconds: for one address, its redirects included.
        resolver: see :func:`gpux.server.media.addresses.resolve`.
        allowed: whether an IP address may be connected to.
    """

    def __init__(
        self,
        most: int,
        seconds: float,
        *,
        resolver: Resolver = resolve,
        allowed: Callable[[str], bool] = is_public,
    ) -> None:
        self._most, self._seconds = most, seconds
        self._resolver, self._allowed = resolver, allowed

    async def get(self, text: str) -> bytes:
        """The body at an address.

        Raises:
            InputError: the address must not be fetched, cannot be reached in time, or has something else.
            TooLargeError: the body has more than ``most`` bytes.
        """
        import httpx2

        try:
            async with asyncio.timeout(self._seconds):
                return await self._follow(parse_address(text))
        except TimeoutError as exc:
            raise _failed(f"did not arrive within {self._seconds:g} seconds") from exc
        # The reason may tell a client what is behind the server's firewall.
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as exc:
            raise _failed("cannot be fetched") from exc

    async def _follow(self, url: httpx2.URL) -> bytes:
        for _ in range(REDIRECTS + 1):
            found = await self._request(url)
            if isinstance(found, bytes):
                return found
            url = parse_address(str(found))
        raise _failed(f"redirects more than {REDIRECTS} times")

    async def _request(self, url: httpx2.URL) -> bytes | httpx2.URL:
        """The body, or the address of a redirect."""
        import httpx2

        address = await checked_ip(url, self._resolver, self._allowed)
        pinned = url.copy_with(host=address, fragment=None)
        headers = {"host": url.netloc.decode("ascii"), "accept-encoding": "identity", "user-agent": "gpux"}
        # The certificate is compared with the name in the address, not with the IP address.
        extensions = {"sni_hostname": host_of(url)} if url.scheme == "https" else {}
        async with (
            httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=self._seconds) as client,
            client.stream("GET", pinned, headers=headers, extensions=extensions) as response,
        ):
            if response.status_code in (301, 302, 303, 307, 308) and "location" in response.headers:
                location = response.headers["location"]
                if not location.isascii() or not location.isprintable() or "\\" in location:
                    raise _failed("redirects to an address that is not valid")
                return url.join(location)
            if response.status_code != 200:
                raise _failed(f"is answered with status {response.status_code}")
            return await self._body(response)

    async def _body(self, response: httpx2.Response) -> bytes:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _failed("has a compressed body")
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not kind.startswith(_KINDS):
            raise _failed("has neither a picture nor a sound")
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > self._most:
                raise TooLargeError(
                    f"an address in the request has more than {self._most} bytes",
                    hint="Send a smaller file.",
                    limit=self._most,
                )
        return bytes(body)


def _failed(reason: str) -> InputError:
    return InputError(f"an address in the request {reason}", hint=_HINT)
