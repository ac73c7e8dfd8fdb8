"""Proxies between this machine and the Hub, for metadata and for files."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import ClassVar

import pytest

from gpux import HuggingFaceManager, Settings, errors
from gpux.cli.main import run
from gpux.download.hub_http import HubHttp
from gpux.model.info import ModelInfo
from gpux.system.settings import proxies
from tests.hub import HubServer
from tests.huggingface.test_network import proxy

__all__ = ["proxy"]
pytestmark = pytest.mark.hub
MODEL, FILE = "tiny/embed", "config.json"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def without_socksio(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "socksio" else find(name))


def info_of(settings: Settings, hub: HubServer) -> ModelInfo:
    info = HuggingFaceManager(settings).get_model_info(MODEL)
    hub.clear_requests()
    return info


def both(settings: Settings, info: ModelInfo) -> None:
    """A request for metadata and one for a file."""
    manager = HuggingFaceManager(settings)
    manager.get_model_info(MODEL)
    assert manager.fetch(info, [FILE]).report


def test_metadata_and_files_use_the_proxy(
    hub: HubServer, settings: Settings, proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = info_of(settings, hub)
    monkeypatch.setenv("HTTP_PROXY", f" {proxy[0]}\r")

    both(settings, info)

    assert [path.startswith(hub.url) for path in proxy[1]] == [True] * len(hub.requests)
    assert len(proxy[1]) == 2


@pytest.mark.parametrize("excluded", ["127.0.0.1", "127.0.0.0/8", "localhost,127.0.0.1", "*", "127.0.0.1:{port}"])
@pytest.mark.parametrize(
    "value", ["socks5://127.0.0.1:9", "socks5h://ada:secret@127.0.0.1:9", "nonsense://x", "http://127.0.0.1:9"]
)
def test_no_proxy_wins(
    hub: HubServer,
    settings: Settings,
    excluded: str,
    value: str,
    without_socksio: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = info_of(settings, hub)
    monkeypatch.setenv("ALL_PROXY", value)
    monkeypatch.setenv("NO_PROXY", excluded.replace("{port}", hub.url.rpartition(":")[2]))

    both(settings, info)

    assert len(hub.requests) == 2


@pytest.mark.parametrize("name", ["ALL_PROXY", "HTTP_PROXY", "http_proxy"])
@pytest.mark.parametrize("value", ["socks5://127.0.0.1:9", "socks5h://ada:secret@127.0.0.1:9"])
def test_a_socks_proxy_without_its_package_names_the_extra(
    hub: HubServer,
    settings: Settings,
    name: str,
    value: str,
    without_socksio: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = info_of(settings, hub)
    monkeypatch.setenv(name, value)
    manager = HuggingFaceManager(settings)

    for call in (
        lambda: manager.get_model_info(MODEL),
        lambda: manager.search_models("x"),
        lambda: manager.fetch(info, [FILE]),
    ):
        with pytest.raises(
            errors.UsageError, match=f"{name}=.* is a SOCKS proxy, for which the package socksio"
        ) as caught:
            call()
        assert "`pip install 'gpux[socks]'`" in str(caught.value.hint)
        assert "secret" not in f"{caught.value} {caught.value.hint} {caught.value.details}"
    assert hub.requests == []
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # what the hint says
    both(settings, info)


def test_the_extra_of_the_hint_exists() -> None:
    from importlib.metadata import metadata

    assert "socks" in (metadata("gpux").get_all("Provides-Extra") or [])


@pytest.mark.parametrize("value", ["socks4://p:1", "ftp://p", "http://p:port", "http://ada:secret@p:99999", "http://"])
def test_a_malformed_proxy_is_a_usage_error(
    hub: HubServer, settings: Settings, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = info_of(settings, hub)
    monkeypatch.setenv("HTTP_PROXY", value)

    with pytest.raises(errors.UsageError, match="HTTP_PROXY="):
        HuggingFaceManager(settings).fetch(info, [FILE])
    assert run(["info", MODEL]) == 2
    shown = capsys.readouterr()
    assert "HTTP_PROXY=" in shown.err
    assert "secret" not in shown.err + shown.out
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")  # what the hint says
    both(settings, info)


@pytest.mark.usefixtures("impatient")
def test_credentials_of_a_proxy_are_not_shown(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://ada:secret@127.0.0.1:9")

    assert run(["info", MODEL]) == 5
    assert run(["info", MODEL, "--json"]) == 5

    shown = capsys.readouterr()
    assert "secret" not in shown.err + shown.out
    assert "HTTPS_PROXY" in shown.err  # the hint


class Socks(socketserver.StreamRequestHandler):
    """SOCKS5 with a user name and a password (RFC 1928, RFC 1929)."""

    asked: ClassVar[list[str]]
    request: socket.socket

    def handle(self) -> None:
        _, count = self.rfile.read(2)
        methods = self.rfile.read(count)
        self.wfile.write(bytes([5, 2 if 2 in methods else 0]))
        if 2 in methods:
            self.rfile.read(1)
            words = [self.rfile.read(self.rfile.read(1)[0]).decode() for _ in range(2)]
            self.asked.append(":".join(words))
            self.wfile.write(b"\x01\x00")
        _, _, _, kind = self.rfile.read(4)
        host = self.rfile.read(self.rfile.read(1)[0]).decode() if kind == 3 else socket.inet_ntoa(self.rfile.read(4))
        port = int.from_bytes(self.rfile.read(2), "big")
        self.asked.append(host)
        with socket.create_connection((host, port)) as there:
            self.wfile.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            thread = threading.Thread(target=_copy, args=(there, self.request), daemon=True)
            thread.start()
            _copy(self.request, there)
            thread.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def socks() -> Iterator[tuple[int, list[str]]]:
    pytest.importorskip("socksio", reason="no socksio: pip install socksio")
    asked: list[str] = []

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), type("Recording", (Socks,), {"asked": asked})) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server.server_address[1], asked
        server.shutdown()


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_is_used(
    hub: HubServer,
    settings: Settings,
    socks: tuple[int, list[str]],
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = info_of(settings, hub)
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://ada:secret@127.0.0.1:{socks[0]}")

    both(settings, info)

    assert socks[1] == ["ada:secret", "127.0.0.1"] * 2
    assert len(hub.requests) == 2


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"])
def test_missing_certificates_are_a_usage_error(
    hub: HubServer, variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "/nowhere/bundle.pem")

    assert run(["info", MODEL]) == 2

    assert f"{variable}=/nowhere/bundle.pem contains no certificates" in capsys.readouterr().err
    monkeypatch.delenv(variable)  # what the hint says
    assert run(["info", MODEL]) == 0


def test_a_process_with_every_wrong_setting_at_once(hub: HubServer) -> None:
    """No traceback, whatever the environment contains."""
    wrong = {
        "HF_ENDPOINT": f"'{hub.url}/ '\r",
        "ALL_PROXY": "socks9://x:y",
        "HF_TOKEN": "''",
        "GPUX_TIMEOUT": " 60 ",
        "HF_HUB_OFFLINE": "no",
    }
    done = subprocess.run(
        [sys.executable, "-m", "gpux", "info", MODEL], env=os.environ | wrong, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    hint = re.search(r"NO_PROXY", done.stderr)
    assert hint
    done = subprocess.run(
        [sys.executable, "-m", "gpux", "info", MODEL],
        env=os.environ | wrong | {"NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("around", ["{} ", "{}\r", " {}/\r\n", '"{}"', "'{}/' ", "\ufeff{}"])
def test_white_space_and_quotes_in_a_process(hub: HubServer, around: str) -> None:
    """huggingface_hub reads the environment when it is imported, and fails."""
    seconds = around.replace("/", "")
    found = {
        "HF_ENDPOINT": around.format(hub.url),
        "HF_HUB_DOWNLOAD_TIMEOUT": seconds.format(10),
        "GPUX_TIMEOUT": seconds.format(60),
    }
    command = [sys.executable, "-m", "gpux", "revisions", MODEL]

    done = subprocess.run(command, env=os.environ | found, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("main\t")


def test_a_variable_that_huggingface_hub_cannot_read(hub: HubServer) -> None:
    command = [sys.executable, "-m", "gpux", "revisions", MODEL]

    done = subprocess.run(command, env=os.environ | {"HF_HUB_DOWNLOAD_TIMEOUT": "soon"}, capture_output=True, text=True)

    assert done.returncode == 2
    assert "'soon'" in done.stderr
    assert "HF_HUB_DOWNLOAD_TIMEOUT" in done.stderr
    assert "Traceback" not in done.stderr
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0  # what the hint says


@pytest.mark.parametrize(
    ("endpoint", "url", "own"),
    [
        ("http://hub.example", "https://hub.example/x", True),
        ("https://hub.example", "http://hub.example/x", False),
        ("https://hub.example", "https://hub.example:8443/x", False),
        ("http://hub.example:8080", "https://hub.example/x", False),
        ("https://hub.example", "https://cdn.hub.example/x", False),
    ],
)
def test_the_origin_that_receives_the_token(endpoint: str, url: str, own: bool) -> None:
    client = HubHttp(endpoint, None, 1.0, proxies=proxies({}))
    assert client.is_origin(url) is own
    client.close()
