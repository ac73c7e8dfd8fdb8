"""Requests for bytes of one file: redirects, the token's own origin, ranges, and what a bad answer means.

The only importer of httpx2 in gpux. The plain ``resolve`` URL serves every file of the Hub; large ones by a redirect
to a signed link of another origin (the CDN), which gets no token and stops working after a while.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import httpx2

from gpux.download import hub_errors
from gpux.download.connections import Connections
from gpux.download.hub_errors import Asked
from gpux.download.ranges import Range
from gpux.download.slots import CAP
from gpux.errors import AccessError, HubServerError, ManagerError, NetworkError, UsageError
from gpux.model.info import ModelFile
from gpux.model.transfer import Tally

REDIRECTS = 8  #: requests for one answer, at most
GLITCHES = 3  #: answers with other bytes than asked for, or refused links, after which it is no accident
HELD = 512 << 10  #: bytes that are handed on together while more wait in the socket …
HELD_CHUNKS = 64  #: … in how many chunks, at most
_PASSING = frozenset({408, 416, 425, 429})  #: 4xx that say nothing about the link
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class RangesIgnoredError(Exception):
    """The server sends other bytes than the range it is asked for."""


class RangeRefusedError(Exception):
    """The server says that the file ends before the range begins (416)."""


class HubHttp:
    """One pool of connections to one Hub and its CDN; safe to use from several threads."""

    def __init__(self, endpoint: str, token: str | None, timeout: float, ca_bundle: Path | None = None) -> None:
        """``timeout`` is in seconds, for a connection to be made and for each read.

        Raises:
            UsageError: ``ca_bundle`` holds no certificates.
        """
        self.endpoint = endpoint
        self.with_token = token is not None
        self._token = token
        self._connections = Connections()
        self._http = httpx2.Client(
            timeout=timeout,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity"},
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=2 * CAP),
            verify=True if ca_bundle is None else _trust(ca_bundle),
        )

    def get(self, url: str, range_header: str | None, asked: Asked) -> httpx2.Response:
        """The answer to one request, its body still to be read; the caller closes it.

        Raises:
            NetworkError: nothing answered.
        """
        headers = {"Range": range_header} if range_header else {}
        if self._token and self.is_origin(url):
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            request = self._http.build_request(
                "GET", url, headers=headers, extensions={"trace": self._connections.trace}
            )
            return self._http.send(request, stream=True)
        except (httpx2.RequestError, httpx2.InvalidURL) as exc:
            raise hub_errors.unreachable(asked, exc) from exc

    def is_origin(self, url: str) -> bool:
        """True for the Hub itself: what may see the token."""
        return _origin(url) == _origin(self.endpoint)

    def cut(self) -> None:
        """End all transfers at once, those that wait for an answer too."""
        self._connections.cut()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class Link:
    """Where one file comes from; remembers where the Hub sent it, until that stops working."""

    def __init__(self, http: HubHttp, model: str, commit: str, file: ModelFile, tally: Tally) -> None:
        self.asked = Asked(http.endpoint, model, commit, file.path, with_token=http.with_token)
        self._http = http
        self._tally = tally
        self._size = file.size
        self._url = f"{http.endpoint}/{model}/resolve/{quote(commit, safe='')}/{quote(file.path)}"
        self._location: str | None = None
        self._glitches = self._refused = 0

    @contextmanager
    def open(self, wanted: Range | None) -> Iterator[Iterator[list[bytes]]]:
        """The bytes of a range, or of the whole file, as they come; there may be fewer or more than asked for.

        Raises:
            RangesIgnoredError: other bytes than those of the range come, again and again.
            RangeRefusedError: the file is said to end before the range.
            NetworkError: nothing answered; while reading: the connection broke.
            ManagerError: the Hub refuses; the subclass says why.
        """
        response = self._follow(None if wanted is None else f"bytes={wanted[0]}-{wanted[1] - 1}")
        try:
            if wanted is not None:
                self._check(response, wanted)
            stream = response.extensions["network_stream"]
            yield batched(self._chunks(response), lambda: bool(stream.get_extra_info("is_readable")))
        finally:
            response.close()

    def size(self) -> int:
        """How long the file is, asked of the Hub.

        Raises:
            HubServerError: it does not tell.
            ManagerError: the Hub refuses; the subclass says why.
        """
        response = self._follow("bytes=0-0")
        response.close()
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        told = match[3] if match else response.headers.get("Content-Length", "")
        if not told.isdigit():
            raise self._useless(f"does not tell how long {self.asked.file} is")
        self._size = int(told)
        return self._size

    def _follow(self, range_header: str | None) -> httpx2.Response:
        """The answer with content, a 200 or 206, after redirects and where need be by a fresh link."""
        known, url = self._location, self._location or self._url
        for _ in range(REDIRECTS):
            self._tally.requests += 1
            response = self._http.get(url, range_header, self.asked)
            if response.status_code in (200, 206):
                self._location = url
                return response
            response.close()
            if response.has_redirect_location:
                url = self._redirected(url, response.headers["Location"])
            elif known is not None and _blames_link(response.status_code):
                known, url = None, self._url  # the signed link expired
            else:
                self._location = None
                raise self._refusal(response, url)
        raise self._useless(f"redirects {self.asked.file} more than {REDIRECTS} times")

    def _redirected(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
            _origin(target)
        except ValueError as exc:
            raise self._useless(f"redirects {self.asked.file} to what is no address: {location!r}") from exc
        return target

    def _useless(self, what: str) -> HubServerError:
        return HubServerError(f"{self._http.endpoint} {what}", hint="Is HF_ENDPOINT the address of a Hub?")

    def _refusal(self, response: httpx2.Response, url: str) -> Exception:
        status = response.status_code
        if status == 416:
            return RangeRefusedError()
        if not self._http.is_origin(url) and _blames_link(status):
            return self._refused_link(status, url)
        error: ManagerError = hub_errors.from_response(status, response.headers, self.asked)
        if (seconds := hub_errors.retry_after(response.headers)) is not None:
            error.details.setdefault("retry_after", seconds)
        return error

    def _refused_link(self, status: int, url: str) -> ManagerError:
        """A link that the Hub has just made is refused by the server that it leads to."""
        self._refused += 1
        host = urlsplit(url).hostname
        message = f"{host}, where the Hub sends {self.asked.file} of {self.asked.model} from, answered HTTP {status}"
        if self._refused < GLITCHES:
            return HubServerError(message, hint="Try again later.")
        return AccessError(message, hint="Does a firewall or proxy on the way let that host through?", host=host)

    def _check(self, response: httpx2.Response, wanted: Range) -> None:
        """Anything but the bytes asked for is not read; it may be an accident of one server among many."""
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        begins = match is not None and response.status_code == 206 and int(match[1]) == wanted[0]
        right_size = match is not None and match[3] in ("*", str(self._size))
        if begins and right_size and not _is_encoded(response):
            self._refused = 0
            return
        self._glitches, self._location = self._glitches + 1, None
        if self._glitches >= GLITCHES:
            raise RangesIgnoredError
        raise self._useless(f"sends other bytes of {self.asked.file} than it was asked for")

    def _chunks(self, response: httpx2.Response) -> Iterator[bytes]:
        """The body as it comes, whatever it says about its length."""
        chunks = response.iter_bytes() if _is_encoded(response) else response.iter_raw()
        try:
            for chunk in chunks:
                self._tally.received += len(chunk)
                yield chunk
        except httpx2.RequestError as exc:
            raise hub_errors.unreachable(self.asked, exc) from exc


def batched(chunks: Iterator[bytes], more_waits: Callable[[], bool]) -> Iterator[list[bytes]]:
    """The same chunks, several at a time while ``more_waits``; none is kept back when they end in an error.

    Raises:
        NetworkError: as ``chunks`` does.
    """
    held: list[bytes] = []
    size = 0
    try:
        for chunk in chunks:
            held.append(chunk)
            size += len(chunk)
            if size >= HELD or len(held) >= HELD_CHUNKS or not more_waits():
                yield held
                held, size = [], 0
    except NetworkError:
        yield held
        raise
    yield held


def _blames_link(status: int) -> bool:
    return 400 <= status < 500 and status not in _PASSING


def _is_encoded(response: httpx2.Response) -> bool:
    return response.headers.get("Content-Encoding", "identity").lower() != "identity"


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _trust(bundle: Path) -> ssl.SSLContext:
    """A context that trusts the certificates of a file, or of a folder as OpenSSL lays it out."""
    try:
        if bundle.is_dir():
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)
    except (OSError, ssl.SSLError) as exc:
        raise UsageError(
            f"REQUESTS_CA_BUNDLE={bundle} holds no certificates: {exc}",
            hint="Let it name a PEM file or a folder of them, or unset it.",
        ) from exc
