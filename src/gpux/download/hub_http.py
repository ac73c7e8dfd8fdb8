"""HTTP requests to one Hub and for the bytes of one file: proxies, redirects, authorization, ranges, and errors.

The only importer of httpx2 in gpux. The ``resolve`` URL serves every file of the Hub; a large file by a redirect to a
signed URL of another origin (the CDN), which receives no token and expires after a while.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpx2

from gpux import __version__
from gpux.download import hub_errors
from gpux.download.hub_errors import RequestContext
from gpux.download.ranges import Range
from gpux.download.slots import CAP
from gpux.errors import AccessError, HubServerError, ManagerError, NetworkError, UsageError
from gpux.model.info import ModelFile
from gpux.model.transfer import Tally
from gpux.system import settings as environment
from gpux.system.proxies import PROXY_HINT, Proxies, Proxy, masked

REDIRECTS = 8  #: requests for one response, at most
ATTEMPTS = 3  #: responses with other bytes than the requested ones, or refused signed URLs, before it is an error
BATCH = 512 << 10  #: bytes that are handed on together while more wait in the socket …
BATCH_CHUNKS = 64  #: … and the number of their chunks, at most
SOCKS_INSTALL = "`pip install 'gpux[socks]'`"
#: Errors before a connection was open.
_UNCONNECTED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.InvalidURL, httpx2.UnsupportedProtocol)
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

    def __init__(
        self,
        endpoint: str,
        token: str | None,
        timeout: float,
        ca_bundle: Path | None = None,
        *,
        proxies: Proxies | None = None,
    ) -> None:
        """Open no connection yet; ``proxies`` are by default those of the environment.

        ``timeout`` is in seconds, for opening a connection and for each read.

        Raises:
            InvalidTokenError: ``token`` contains characters that a header must not contain.
            UsageError: ``ca_bundle``, or the variable that names another one, contains no certificates.
        """
        self.endpoint = endpoint
        self.with_token = token is not None
        # The HTTP libraries quote an invalid header in their error, token included.
        self._token = None if token is None else hub_errors.check_token(token)
        self._connections = Connections()
        transport = _Routes(proxies or environment.proxies(), trusted(ca_bundle))
        self._http = httpx2.Client(
            transport=transport,
            timeout=timeout,
            follow_redirects=False,
            trust_env=False,
            headers={"Accept-Encoding": "identity", "User-Agent": f"gpux/{__version__}"},
        )

    def get(self, url: str, range_header: str | None, context: RequestContext) -> httpx2.Response:
        """The response to one GET request, its body not read yet; the caller closes it.

        Raises:
            NetworkError: no response arrived; ``details["connected"]`` says whether there was a connection.
            UsageError: the proxy of the environment cannot be used.
        """
        return self.send("GET", url, context, headers={"Range": range_header} if range_header else {})

    def send(
        self,
        method: str,
        url: str,
        context: RequestContext,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        form: Mapping[str, Any] | None = None,
    ) -> httpx2.Response:
        """The response to one request, as :meth:`get`; ``form`` is sent as a form."""
        sent = dict(headers or {})
        if self._token and self.is_origin(url):
            sent["Authorization"] = f"Bearer {self._token}"
        try:
            request = self._http.build_request(
                method,
                url,
                params=params,
                data=form,
                headers=sent,
                extensions={"trace": self._connections.trace},
            )
            return self._http.send(request, stream=True)
        except (httpx2.RequestError, httpx2.InvalidURL) as exc:
            error = hub_errors.unreachable(context, _reason(exc))
            error.details["connected"] = not isinstance(exc, _UNCONNECTED)
            raise error from exc

    def is_origin(self, url: str) -> bool:
        """True for the Hub's own origin, the only one that receives the token, also where it is upgraded to https."""
        origin, hub = _origin(url), _origin(self.endpoint)
        return origin == hub or (hub == ("http", hub[1], 80) and origin == ("https", hub[1], 443))

    def redirect_target(self, url: str, location: str, context: RequestContext) -> str:
        """The URL that a redirect from ``url`` leads to.

        Raises:
            HubServerError: ``location`` is not a URL.
        """
        try:
            target = urljoin(url, location)
            _origin(target)
        except ValueError as exc:
            what = context.file or "a request"
            message = f"{self.endpoint} redirects {what} to an invalid URL: {location!r}"
            raise HubServerError(message, hint=hub_errors.ENDPOINT_HINT) from exc
        return target

    def read(self, response: httpx2.Response, context: RequestContext) -> bytes:
        """The whole body.

        Raises:
            NetworkError: the connection broke, or the body ends early.
        """
        try:
            return response.read()
        except httpx2.RequestError as exc:
            raise hub_errors.unreachable(context, _reason(exc)) from exc

    def abort(self) -> None:
        """End all transfers at once, including requests that wait for a response."""
        self._connections.shut_down()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class _Routes(httpx2.BaseTransport):
    """Sends each request through its proxy. A proxy is opened when the first request needs it."""

    def __init__(self, proxies: Proxies, trusted: ssl.SSLContext) -> None:
        self._proxies = proxies
        self._trusted = trusted
        self._transports: dict[str, httpx2.HTTPTransport] = {}
        self._lock = threading.Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The response; its body is not read yet.

        Raises:
            UsageError: the proxy's variable is malformed, or its kind is not supported.
        """
        proxy = self._proxies.for_url(str(request.url))
        with self._lock:
            key = proxy.url if proxy else ""
            if key not in self._transports:
                self._transports[key] = self._open(proxy)
        return self._transports[key].handle_request(request)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for transport in self._transports.values():
                transport.close()

    def _open(self, proxy: Proxy | None) -> httpx2.HTTPTransport:
        if proxy is not None and proxy.is_socks and importlib.util.find_spec("socksio") is None:
            raise UsageError(
                f"{proxy.variable}={masked(proxy.url)} is a SOCKS proxy, for which the package socksio is missing",
                hint=f"{SOCKS_INSTALL} installs it; or list the Hub's host in NO_PROXY.",
            )
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=2 * CAP)
        try:
            return httpx2.HTTPTransport(
                verify=self._trusted, trust_env=False, limits=limits, proxy=proxy.url if proxy else None
            )
        except (ValueError, httpx2.InvalidURL) as exc:
            named = f"{proxy.variable}={masked(proxy.url)!r}" if proxy else "the proxy"
            raise UsageError(f"{named} is not the URL of a proxy", hint=PROXY_HINT) from exc


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
                url = self._http.redirect_target(url, response.headers["Location"], self.context)
            elif kept is not None and _may_have_expired(response.status_code):
                kept, url = None, self._url
            else:
                self._location = None
                raise self._refusal(response, url)
        raise self._bad_response(f"redirects {self.context.file} more than {REDIRECTS} times")

    def _bad_response(self, what: str) -> HubServerError:
        return HubServerError(f"{self._http.endpoint} {what}", hint=hub_errors.ENDPOINT_HINT)

    def _refusal(self, response: httpx2.Response, url: str) -> Exception:
        status = response.status_code
        if status == 416:
            return RangeRefusedError()
        if not self._http.is_origin(url) and _may_have_expired(status):
            return self._refused_url(status, url)
        return hub_errors.refusal(status, response.headers, self.context)

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
            raise hub_errors.unreachable(self.context, _reason(exc)) from exc


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


def _reason(exc: Exception) -> str:
    """The error of the HTTP library, without the user name and password that a proxy's URL may contain."""
    return re.sub(r"//[^/@\s]+@", "//***@", str(exc)) or type(exc).__name__


def trusted(bundle: Path | None) -> ssl.SSLContext:
    """The certificates of an explicit bundle, else of ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, else of the system."""
    if bundle is not None:
        return _trust("REQUESTS_CA_BUNDLE", bundle)
    named = environment.certificates()
    return _system_certificates() if named is None else _trust(*named)


@functools.cache
def _system_certificates() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)


def _trust(variable: str, bundle: Path) -> ssl.SSLContext:
    """A context that trusts the certificates of a file, or of a folder in OpenSSL's layout."""
    try:
        return _context(bundle, bundle.stat().st_mtime_ns)
    except (OSError, ssl.SSLError) as exc:
        raise UsageError(
            f"{variable}={bundle} contains no certificates: {exc}",
            hint="Set it to a PEM file or to a folder of them, or unset it.",
        ) from exc


@functools.lru_cache(maxsize=4)
def _context(bundle: Path, changed: int) -> ssl.SSLContext:
    """Loaded once for each change of the bundle: that of a system takes 70 ms, and a pull has several clients."""
    if bundle.is_dir():
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)
