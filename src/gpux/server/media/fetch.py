"""Fetches a picture or a sound from an address that a client gave, without reaching what only this machine can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gpux.errors import DeadlineError, GpuxError, InputError, TooLargeError
from gpux.server.media.addresses import Resolver, checked_ip, host_of, is_public, parse_address, resolve

if TYPE_CHECKING:
    import httpx2

#: Redirects that are followed, each to an address that is checked as the first one.
REDIRECTS = 3
#: Connections of one request at the same time; its further addresses wait, within the same deadline.
CONNECTIONS = 8
_HINT = "Check it in a browser, or send the file itself in base64."
#: Beginnings of the types that are read.
_KINDS = ("image/", "audio/", "video/", "application/octet-stream", "binary/octet-stream", "application/ogg")


class Fetcher:
    """Gets the bytes at addresses; each request has a connection of its own, without proxies, cookies and credentials.

    Args:
        most: bytes of one body.
        seconds: for all addresses of one request, redirects and the wait for a connection included.
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
            GpuxError: see :meth:`get_all`.
        """
        [found] = (await self.get_all({"url": text}, self._most)).values()
        return found

    async def get_all(self, addresses: Mapping[str, str], together: int, used: int = 0) -> dict[str, bytes]:
        """The bodies at the addresses of one request, fetched at the same time; the first error ends all.

        Args:
            addresses: by the parameter that has each one; an error of one address has it as ``param``.
            together: bytes that all files of the request may have.
            used: those of its files that have no address.

        Raises:
            InputError: an address must not be fetched, cannot be reached, or has something else.
            TooLargeError: a body has more than ``most`` bytes, or all have more than ``together``.
            DeadlineError: they did not arrive in time.
        """
        urls = {}
        for param, text in addresses.items():  # all are checked before the first one is fetched
            with _blaming(param):
                urls[param] = parse_address(text)
        budget, turns, found = _Budget(together, used), asyncio.Semaphore(CONNECTIONS), dict.fromkeys(addresses, b"")

        async def fetch(param: str, url: httpx2.URL) -> None:
            async with turns:
                with _blaming(param):
                    found[param] = await self._get(url, budget)

        try:
            async with asyncio.timeout(self._seconds), asyncio.TaskGroup() as group:
                for param, url in urls.items():
                    group.create_task(fetch(param, url))
        except TimeoutError as exc:
            which = "an address in the request" if len(addresses) == 1 else "the addresses in the request"
            raise DeadlineError(
                f"{which} did not arrive within {self._seconds:g} seconds", hint=_HINT, should_retry=False
            ) from exc
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return found

    async def _get(self, url: httpx2.URL, budget: _Budget) -> bytes:
        import httpx2

        try:
            return await self._follow(url, budget)
        # The reason may tell a client what is behind the server's firewall.
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as exc:
            raise _failed("cannot be fetched") from exc

    async def _follow(self, url: httpx2.URL, budget: _Budget) -> bytes:
        for _ in range(REDIRECTS + 1):
            found = await self._request(url, budget)
            if isinstance(found, bytes):
                return found
            url = parse_address(str(found))
        raise _failed(f"redirects more than {REDIRECTS} times")

    async def _request(self, url: httpx2.URL, budget: _Budget) -> bytes | httpx2.URL:
        """The body, or the address of a redirect."""
        import httpx2

        address = await checked_ip(url, self._resolver, self._allowed)
        pinned = url.copy_with(host=address, fragment=None)
        headers = {"host": url.netloc.decode("ascii"), "accept-encoding": "identity", "user-agent": "gpux"}
        # The certificate is compared with the name in the address, not with the IP address.
        extensions = {"sni_hostname": host_of(url)} if url.scheme == "https" else {}
        async with (
            httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=None) as client,
            client.stream("GET", pinned, headers=headers, extensions=extensions) as response,
        ):
            if response.status_code in (301, 302, 303, 307, 308) and "location" in response.headers:
                location = response.headers["location"]
                if not location.isascii() or not location.isprintable() or "\\" in location:
                    raise _failed("redirects to an address that is not valid")
                return url.join(location)
            if response.status_code != 200:
                raise _failed(f"is answered with status {response.status_code}")
            return await self._body(response, budget)

    async def _body(self, response: httpx2.Response, budget: _Budget) -> bytes:
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
            budget.take(len(part))
        return bytes(body)


@contextmanager
def _blaming(param: str) -> Iterator[None]:
    try:
        yield
    except GpuxError as error:
        error.details.setdefault("param", param)
        raise


class _Budget:
    """Counts the bytes of all bodies of a request while they arrive."""

    def __init__(self, most: int, used: int) -> None:
        self._most, self._left = most, most - used

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise together_too_large(self._most)


def together_too_large(most: int) -> TooLargeError:
    """The error of a request whose files have too many bytes together."""
    return TooLargeError(
        f"the files of the request have more than {most} bytes together", hint="Send several requests.", limit=most
    )


def _failed(reason: str) -> InputError:
    return InputError(f"an address in the request {reason}", hint=_HINT)
