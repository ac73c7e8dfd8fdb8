"""The network between this machine and the Hub: proxies, certificates, connections that break."""

from __future__ import annotations

import http.client
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from gpux import HuggingFaceManager, Settings, errors
from gpux.download import retry
from gpux.download.hub_errors import RequestContext
from gpux.download.hub_http import Connections, HubHttp
from gpux.download.retry import RetryPolicy
from gpux.errors import UsageError
from gpux.model.info import ModelInfo
from gpux.model.transfer import FileReport, TransferReport
from tests.hub import HubServer

pytestmark = pytest.mark.hub
MODEL, FILE = "tiny/embed", "config.json"


class Proxy(http.server.BaseHTTPRequestHandler):
    """Forwards GET requests, and records their paths."""

    protocol_version = "HTTP/1.1"
    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        parts = urlsplit(self.path)
        there = http.client.HTTPConnection(parts.hostname or "", parts.port or 80)
        there.request("GET", self.path.removeprefix(f"{parts.scheme}://{parts.netloc}"), headers=dict(self.headers))
        answer = there.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "date", "server"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        there.close()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    paths: list[str] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Recording", (Proxy,), {"paths": paths}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", paths
    server.shutdown()
    server.server_close()


def fetch(settings: Settings, info: ModelInfo) -> None:
    assert HuggingFaceManager(settings).fetch(info, [FILE]).report is not None


def test_the_proxy_of_the_environment_is_used(
    settings: Settings, proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = HuggingFaceManager(settings).get_model_info(MODEL)
    url, paths = proxy
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "example.org")

    fetch(settings, info)

    assert any(FILE in path and path.startswith("http://") for path in paths)


def test_no_proxy_is_respected(
    settings: Settings, proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = HuggingFaceManager(settings).get_model_info(MODEL)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy[0])

    fetch(settings, info)

    assert proxy[1] == []


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("makes a certificate with openssl")
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    extension = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [openssl, *request, *extension, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True
    )
    return files


@pytest.fixture
def secure(hub: HubServer, certificate: tuple[Path, Path]) -> Iterator[str]:
    """The Hub's address behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listening, context, urlsplit(hub.url).port), daemon=True).start()
    yield f"https://127.0.0.1:{listening.getsockname()[1]}"
    listening.close()


def _accept(listening: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with suppress(OSError):
        while True:
            plain, _ = listening.accept()
            threading.Thread(target=_tunnel, args=(plain, context, port), daemon=True).start()


def _tunnel(plain: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with (
        suppress(OSError),
        context.wrap_socket(plain, server_side=True) as here,
        socket.create_connection(("127.0.0.1", port)) as there,
    ):
        threading.Thread(target=_copy, args=(there, here), daemon=True).start()
        _copy(here, there)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_certificates_of_the_environment_are_trusted(
    settings: Settings, secure: str, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    info = HuggingFaceManager(settings).get_model_info(MODEL)
    monkeypatch.setattr(retry, "DEFAULT_POLICY", RetryPolicy(deadline=0.1, first=0.01))
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(errors.NetworkError, match="certificate"):
        fetch(settings.with_overrides(endpoint=secure), info)
    monkeypatch.setenv(variable, str(certificate[0]))

    fetch(Settings.from_env(endpoint=secure), info)


def test_the_bundle_that_httpx_reads_takes_precedence() -> None:
    both = {"REQUESTS_CA_BUNDLE": "/r.pem", "SSL_CERT_FILE": "/s.pem"}
    assert Settings.from_env(both).ca_bundle is None
    assert Settings.from_env({"REQUESTS_CA_BUNDLE": "/r.pem"}).ca_bundle == Path("/r.pem")
    assert Settings.from_env({}).ca_bundle is None


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_bundle_without_certificates(tmp_path: Path, content: bytes | None) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)

    with pytest.raises(UsageError, match=r"bundle\.pem"):
        HubHttp("https://hub.example", None, 1.0, bundle)


def test_a_folder_of_certificates(tmp_path: Path) -> None:
    http_client = HubHttp("https://hub.example", None, 1.0, tmp_path)
    assert http_client.is_origin("https://hub.example/any/file")
    http_client.close()


def _request_errors() -> list[type[httpx2.RequestError]]:
    found, pending = [], [httpx2.RequestError]
    while pending:
        kind = pending.pop()
        found.append(kind)
        pending.extend(kind.__subclasses__())
    return found


def _raiser(kind: type[Exception]) -> Callable[..., Any]:
    def fail(*args: object, **kwargs: object) -> None:
        raise kind("it happened")

    return fail


@pytest.mark.parametrize("kind", [*_request_errors(), httpx2.InvalidURL])
def test_every_error_of_a_request_is_mapped(kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    http_client = HubHttp("http://127.0.0.1:9", "hf_secret", 1.0)
    monkeypatch.setattr(httpx2.Client, "send", _raiser(kind))

    with pytest.raises(errors.NetworkError) as caught:
        http_client.get("http://127.0.0.1:9/x", None, RequestContext("http://127.0.0.1:9"))

    assert "hf_secret" not in str(caught.value)
    http_client.close()


@pytest.mark.parametrize(
    "event", ["connection.connect_tcp", "connection.start_tls", "proxy.start_tls", "socks.start_tls"]
)
def test_every_kind_of_connection_can_be_shut_down(event: str) -> None:
    here, there = socket.socketpair()

    class Stream:
        def get_extra_info(self, name: str) -> socket.socket:
            return here

    connections = Connections()
    connections.trace(f"{event}.complete", {"return_value": Stream()})
    connections.shut_down()
    assert there.recv(1) == b""
    here.close()
    there.close()


def test_a_report_adds_up() -> None:
    files = (
        FileReport("a", 10, verified=True, received=12, requests=3, retries=1),
        FileReport("b", 5, cached=True, verified=True),
    )
    report = TransferReport(files, seconds=2.0)

    assert (report.received, report.requests, report.retries, report.cache_hits, report.verified) == (12, 3, 1, 1, 2)
    assert report.to_dict()["bytes_per_second"] == 6.0 and TransferReport().bytes_per_second == 0.0
