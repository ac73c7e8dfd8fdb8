"""HTTP requests for the bytes of one file: redirects, authorization, ranges, and errors.

The only importer of httpx2 in gpux. The ``resolve`` URL serves every file of the Hub; a large file by a redirect to a
signed URL of another origin (the CDN), which receives no token and expires after a while.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpx2

from gpux.download import hub_errors
from gpux.download.hub_errors import RequestContext
from gpux.download.ranges import Range
from gpux.download.slots import CAP
from gpux.errors import AccessError, HubServerError, ManagerError, NetworkError, UsageError
from gpux.model.info import ModelFile
from gpux.model.transfer import Tally

REDIRECTS = 8  #: requests for one response, at most
ATTEMPTS = 3  #: responses with other bytes than the requested ones, or refused signed URLs, before it is an error
BATCH = 512 << 10  #: bytes that are handed on together while more wait in the socket …
BATCH_CHUNKS = 64  #: … and the number of their chunks, at most
_NOT_ABOUT_THE_URL = frozenset({408, 416, 425, 429})  #: 4xx statuses that do not mean that a signed URL expired
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
#: Ends of the events of httpcore's "trace" extension that return a new stream, direct or through a proxy
#: (https://www.encode.io/httpcore/extensions/).
_OPENED = (".connect_tcp.complete", ".start_tls.complete")


class RangesIgnoredError(Exception):
    """The server sends other bytes than the requested range."""


class RangeRefusedError(Exception):
    """The server answers that the file ends before the range starts (416)."""


class HubHttp:
    """One pool of connections to one Hub and its CDN. Thread-safe."""

    def __init__(self, endpoint: str, token: str | None, timeout: float, ca_bundle: Path | None = None) -> None:
        """``timeout`` is in seconds, for opening a connection and for each read.

        Raises:
            UsageError: ``ca_bundle`` contains no certificates.
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

    def get(self, url: str, range_header: str | None, context: RequestContext) -> httpx2.Response:
        """The response to one request, its body not read yet; the caller closes it.

        Raises:
            NetworkError: no response arrived.
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
            raise hub_errors.unreachable(context, exc) from exc

    def is_origin(self, url: str) -> bool:
        """True for the Hub's own origin, the only one that receives the token."""
        return _origin(url) == _origin(self.endpoint)

    def abort(self) -> None:
        """End all transfers at once, including requests that wait for a response."""
        self._connections.shut_down()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class Connections:
    """The open connections of a client (its request extension ``trace``), so that all can be ended at once."""

    def __init__(self) -> None:
        self._streams: list[Any] = []
        self._lock = threading.Lock()
        self._ended = False

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Called by the HTTP library; keeps the streams of new connections."""
        if event.endswith(_OPENED):
            with self._lock:
                self._streams.append(info["return_value"])
                if self._ended:
                    _shut_down(info["return_value"])

    def shut_down(self) -> None:
        """End every present and later read and write; closing a socket would not wake a thread that reads from it."""
        with self._lock:
            self._ended = True
            for stream in self._streams:
                _shut_down(stream)


class RemoteFile:
    """One file of a Hub, read over HTTP; keeps the signed URL of the last redirect until it expires."""

    def __init__(self, http: HubHttp, model: str, commit: str, file: ModelFile, tally: Tally) -> None:
        self.context = RequestContext(http.endpoint, model, commit, file.path, with_token=http.with_token)
        self._http = http
        self._tally = tally
        self._size = file.size
        self._url = f"{http.endpoint}/{model}/resolve/{quote(commit, safe='')}/{quote(file.path)}"
        self._location: str | None = None
        self._wrong_ranges = self._refused_urls = 0

    @contextlib.contextmanager
    def open(self, wanted: Range | None) -> Iterator[Iterator[list[bytes]]]:
        """The bytes of a range, or of the whole file, as they arrive; the server may send fewer or more.

        Raises:
            RangesIgnoredError: the server repeatedly sends other bytes than the range.
            RangeRefusedError: the server answers that the file ends before the range.
            NetworkError: no response arrived; while reading: the connection broke.
            ManagerError: the Hub refuses; the subclass says why.
        """
        response = self._request(None if wanted is None else f"bytes={wanted[0]}-{wanted[1] - 1}")
        try:
            if wanted is not None:
                self._check_range(response, wanted)
            stream = response.extensions["network_stream"]
            yield batched(self._chunks(response), lambda: bool(stream.get_extra_info("is_readable")))
        finally:
            response.close()

    def size(self) -> int:
        """The size of the file in bytes, by one request.

        Raises:
            HubServerError: the response does not contain it.
            ManagerError: the Hub refuses; the subclass says why.
        """
        response = self._request("bytes=0-0")
        response.close()
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        size = match[3] if match else response.headers.get("Content-Length", "")
        if not size.isdigit():
            raise self._bad_response(f"does not send the size of {self.context.file}")
        self._size = int(size)
        return self._size

    def _request(self, range_header: str | None) -> httpx2.Response:
        """The 200 or 206 response after redirects, and after a new signed URL if the kept one expired."""
        kept, url = self._location, self._location or self._url
        for _ in range(REDIRECTS):
            self._tally.requests += 1
            response = self._http.get(url, range_header, self.context)
            if response.status_code in (200, 206):
                self._location = url
                return response
            response.close()
            if response.has_redirect_location:
                url = self._redirect_target(url, response.headers["Location"])
            elif kept is not None and _may_have_expired(response.status_code):
                kept, url = None, self._url
            else:
                self._location = None
                raise self._refusal(response, url)
        raise self._bad_response(f"redirects {self.context.file} more than {REDIRECTS} times")

    def _redirect_target(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
            _origin(target)
        except ValueError as exc:
            raise self._bad_response(f"redirects {self.context.file} to an invalid URL: {location!r}") from exc
        return target

    def _bad_response(self, what: str) -> HubServerError:
        return HubServerError(f"{self._http.endpoint} {what}", hint="Is HF_ENDPOINT the address of a Hub?")

    def _refusal(self, response: httpx2.Response, url: str) -> Exception:
        status = response.status_code
        if status == 416:
            return RangeRefusedError()
        if not self._http.is_origin(url) and _may_have_expired(status):
            return self._refused_url(status, url)
        error: ManagerError = hub_errors.from_response(status, response.headers, self.context)
        if (seconds := hub_errors.retry_after(response.headers)) is not None:
            error.details.setdefault("retry_after", seconds)
        return error

    def _refused_url(self, status: int, url: str) -> ManagerError:
        """The CDN refuses a signed URL that the Hub has just issued."""
        self._refused_urls += 1
        host = urlsplit(url).hostname
        message = f"{host}, which serves {self.context.file} of {self.context.model}, answered HTTP {status}"
        if self._refused_urls < ATTEMPTS:
            return HubServerError(message, hint="Try again later.")
        return AccessError(message, hint="Check that no firewall or proxy blocks that host.", host=host)

    def _check_range(self, response: httpx2.Response, wanted: Range) -> None:
        """Refuse a body with other bytes than the range; retried, since one of several servers may be at fault."""
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        begins = match is not None and response.status_code == 206 and int(match[1]) == wanted[0]
        right_size = match is not None and match[3] in ("*", str(self._size))
        if begins and right_size and not _is_encoded(response):
            self._refused_urls = 0
            return
        self._wrong_ranges, self._location = self._wrong_ranges + 1, None
        if self._wrong_ranges >= ATTEMPTS:
            raise RangesIgnoredError
        raise self._bad_response(f"sends other bytes of {self.context.file} than the requested ones")

    def _chunks(self, response: httpx2.Response) -> Iterator[bytes]:
        """The body as it arrives, whatever length the headers announce."""
        chunks = response.iter_bytes() if _is_encoded(response) else response.iter_raw()
        try:
            for chunk in chunks:
                self._tally.received += len(chunk)
                yield chunk
        except httpx2.RequestError as exc:
            raise hub_errors.unreachable(self.context, exc) from exc


def batched(chunks: Iterator[bytes], more_waits: Callable[[], bool]) -> Iterator[list[bytes]]:
    """Lists of chunks, several together while ``more_waits``; the last list is yielded before an error is raised.

    Raises:
        NetworkError: as ``chunks`` does.
    """
    batch: list[bytes] = []
    size = 0
    try:
        for chunk in chunks:
            batch.append(chunk)
            size += len(chunk)
            if size >= BATCH or len(batch) >= BATCH_CHUNKS or not more_waits():
                yield batch
                batch, size = [], 0
    except NetworkError:
        yield batch
        raise
    yield batch


def _may_have_expired(status: int) -> bool:
    """Whether the status may mean that a signed URL is no longer valid."""
    return 400 <= status < 500 and status not in _NOT_ABOUT_THE_URL


def _is_encoded(response: httpx2.Response) -> bool:
    return response.headers.get("Content-Encoding", "identity").lower() != "identity"


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _shut_down(stream: Any) -> None:
    sock = stream.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):  # closed already
            sock.shutdown(socket.SHUT_RDWR)


def _trust(bundle: Path) -> ssl.SSLContext:
    """A context that trusts the certificates of a file, or of a folder in OpenSSL's layout."""
    try:
        if bundle.is_dir():
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)
    except (OSError, ssl.SSLError) as exc:
        raise UsageError(
            f"REQUESTS_CA_BUNDLE={bundle} contains no certificates: {exc}",
            hint="Set it to a PEM file or to a folder of them, or unset it.",
        ) from exc
