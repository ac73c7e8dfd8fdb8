"""Responses of the server to requests that huggingface_hub never sends."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.hub import Fault, HubServer, add_repo
from tests.hub.conftest import FILES, GOOD, ONNX, OTHER
from tests.hub.wire import CONFIG, LFS, PATIENCE, ask, wait_for


@pytest.mark.parametrize("path", [CONFIG, LFS, "/api/models/acme/plain", "/acme/plain/resolve/main/missing"])
def test_head_is_get_without_a_body(hub: HubServer, path: str) -> None:
    head, get = ask(hub.url + path, "HEAD"), ask(hub.url + path)
    varying = ("date", "x-request-id", "ratelimit", "location")
    assert (head.status, head.body) == (get.status, b"")
    for answer in (head, get):
        assert answer.headers["ratelimit"].startswith('"resolvers"' if "resolve" in path else '"api"')
        assert answer.headers["x-request-id"]
    assert {k: v for k, v in head.headers.items() if k not in varying} == {
        k: v for k, v in get.headers.items() if k not in varying
    }


@pytest.mark.parametrize(
    ("wanted", "status", "start", "stop"),
    [
        ("bytes=10-", 206, 10, None),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=-5", 206, len(ONNX) - 5, None),
        ("bytes=10-99999999", 206, 10, None),
        ("bytes=5-4", 200, 0, None),
        ("bytes=0-1,4-5", 200, 0, None),
        ("lines=1-2", 200, 0, None),
        (f"bytes={len(ONNX)}-", 416, None, None),
    ],
)
def test_ranges(cdn: str, wanted: str, status: int, start: int | None, stop: int | None) -> None:
    answer = ask(cdn, Range=wanted)
    assert answer.status == status
    if status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(ONNX)}"
    else:
        assert answer.body == ONNX[start:stop]
    if status == 206:
        last = (start or 0) + len(answer.body) - 1
        assert answer.headers["content-range"] == f"bytes {start}-{last}/{len(ONNX)}"


def test_if_range(hub: HubServer, cdn: str) -> None:
    etag = ask(cdn).headers["etag"]
    assert ask(cdn, Range="bytes=1-", If_Range=etag).status == 206
    assert ask(cdn, Range="bytes=1-", If_Range='"other"').status == 200
    assert ask(hub.url + CONFIG, Range="bytes=1-3").body == b'"mo'


def test_signed_urls(hub: HubServer, cdn: str) -> None:
    assert ask(cdn).body == ONNX
    assert ask(cdn.replace("expires=", "expires=9")).status == 403
    assert ask(cdn.partition("?")[0]).status == 403
    hub.expire_cdn_urls()
    assert ask(cdn).status == 403


@pytest.mark.parametrize(
    "path",
    [
        "/acme/plain/resolve/main/../../repo.json",
        "/acme/plain/resolve/main/..%2F..%2Frepo.json",
        "/acme/plain/resolve/main/%2Fetc%2Fpasswd",
        "/acme/plain/resolve/..%2F..%2Fsecond/repo.json",
        "/acme/plain/resolve/../plain/config.json",
        "/acme/..%2Facme%2Fplain/resolve/main/config.json",
        "/../../etc/passwd",
        "/api/models/../acme/plain",
        "/api/models/acme/..",
        "/api/models/acme/plain/tree/main/..%2F..",
        "/api/models/acme/plain/tree/..",
        "/api/datasets/acme/plain",
        "/api/models/acme/plain/nothing",
    ],
)
def test_nothing_outside_is_served(hub: HubServer, path: str) -> None:
    answer = ask(hub.url + path, token=GOOD)
    assert answer.status == 404
    assert set(answer.json) == {"error"}


def test_a_header_cannot_be_injected(hub: HubServer) -> None:
    answer = ask(f"{hub.url}/api/models/acme/plain/revision/a%0D%0AX-Injected:%20b%E2%82%AC")
    assert answer.status == 404
    assert "x-injected" not in answer.headers
    assert answer.json["error"] == "Invalid rev id: a\r\nX-Injected: b\u20ac"


@pytest.mark.parametrize(
    ("path", "token", "status", "code"),
    [
        ("/api/models/acme/missing", None, 401, "RepoNotFound"),
        ("/api/models/acme/private", OTHER, 404, "RepoNotFound"),
        ("/api/models/acme/plain", "unknown", 401, None),
        ("/api/models/acme/gated/auth-check", None, 401, "GatedRepo"),
        ("/acme/gated/resolve/main/config.json", OTHER, 403, "GatedRepo"),
        ("/acme/gated/resolve/main/config.json", GOOD, 200, None),
        ("/api/models/acme/disabled", None, 403, None),
        ("/api/models/acme/plain/revision/zz", None, 404, "RevisionNotFound"),
        ("/acme/plain/resolve/main/zz", None, 404, "EntryNotFound"),
        ("/api/models?expand=nothing", None, 400, None),
        ("/api/models?sort=nothing", None, 400, None),
        ("/api/models?limit=x", None, 400, None),
        ("/api/models?cursor=x", None, 400, None),
        ("/api/models/acme/plain/paths-info/main", None, 405, None),
        ("/api/whoami-v2", None, 401, None),
        ("/api/agent-harnesses", None, 200, None),
        ("/api/models-tags-by-type", None, 200, None),
        ("/api/models/acme/plain/auth-check/write", GOOD, 403, None),
    ],
)
def test_statuses_and_codes(hub: HubServer, path: str, token: str | None, status: int, code: str | None) -> None:
    answer = ask(hub.url + path, token=token)
    assert (answer.status, answer.headers.get("x-error-code")) == (status, code)
    assert ("x-error-message" in answer.headers) == (status >= 400)


def test_other_methods(hub: HubServer) -> None:
    assert ask(f"{hub.url}/api/models/acme/plain", "POST", b"{}").status == 405
    assert ask(f"{hub.url}/api/models/acme/plain", "DELETE").status == 405
    body = json.dumps({"paths": ["config.json"], "expand": True}).encode()
    answer = ask(f"{hub.url}/api/models/acme/plain/paths-info/main", "POST", body, Content_Type="application/json")
    assert answer.json[0]["lastCommit"]["id"] == hub.commit("acme/plain")
    assert ask(f"{hub.url}/api/models/acme/plain/paths-info/main", "POST", b"[", Content_Type="json").status == 400
    assert ask(f"{hub.url}/api/models", "POST", Content_Length="99999999999").status == 413


def test_listing(hub: HubServer) -> None:
    url = f"{hub.url}/api/models?author=crowd&limit=7&full=true"
    first = ask(url)
    link = first.headers["link"]
    assert link.startswith(f"<{hub.url}/api/models?author=crowd&limit=7&full=true&cursor=")
    second = ask(link.removeprefix("<").partition(">")[0])
    assert (len(first.json), len(second.json), second.headers.get("link")) == (7, 5, None)
    assert {"siblings", "sha", "lastModified"} <= set(first.json[0])
    found = ask(f"{hub.url}/api/models?expand[]=sha&expand=likes&filter=crowd").json
    assert set(found[0]) == {"_id", "id", "sha", "likes"}
    sizes = [ask(f"{hub.url}/api/models?num_parameters={bounds}").json for bounds in ("min:5,max:6", "min:1K")]
    assert [[model["id"] for model in models] for models in sizes] == [["acme/plain"], []]


def test_redirects_keep_the_query(hub: HubServer) -> None:
    answer = ask(f"{hub.url}/api/models/ACME/first/tree/refs%2Fpr%2F1?recursive=true")
    assert answer.status == 307
    assert answer.headers["location"] == "/api/models/acme/second/tree/refs%2Fpr%2F1?recursive=true"


def test_one_connection_serves_many_requests(hub: HubServer) -> None:
    parts = urlsplit(hub.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
    addresses = set()
    for _ in range(50):
        connection.request("GET", CONFIG)
        assert connection.getresponse().read() == FILES["config.json"]
        assert connection.sock
        addresses.add(connection.sock.getsockname())
    (address,) = addresses
    served = hub.connection_from(address)
    # With Nagle's algorithm a response would wait 40 ms for a delayed acknowledgement.
    assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    connection.close()


def test_many_connections_at_once(hub: HubServer, cdn: str) -> None:
    bodies: list[bytes] = []
    threads = [threading.Thread(target=lambda: bodies.append(ask(cdn).body)) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bodies == [ONNX] * 60
    assert len(hub.requests) == 60


def test_stop_and_start(tmp_path: Path) -> None:
    add_repo(tmp_path, "a/b", {"f": b"x"})
    with HubServer(tmp_path) as hub:
        url = f"{hub.url}/a/b/resolve/main/f"
        parts = urlsplit(url)
        kept = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=PATIENCE)
        hub.add_fault(Fault("hang"))
        kept.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: bool(hub.requests))
        hub.stop()
        assert kept.recv(1) == b""
        kept.close()
        with pytest.raises(OSError):
            ask(url)
        hub.start()
        assert ask(url).body == b"x"
