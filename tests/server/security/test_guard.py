"""Host, Origin, Sec-Fetch-Site and preflight requests, as browsers and attackers send them."""

from __future__ import annotations

import pytest

from tests.server.security.conftest import LISTED, NAME
from tests.server.security.serving import Local, status_of

PATH = "/v1/models"


@pytest.mark.parametrize(
    "host",
    [
        *["127.0.0.1", "127.0.0.1:5000", "localhost", "LOCALHOST:80", "app.localhost:5000", "[::1]", "[::1]:5000"],
        *["192.168.0.7:5000", NAME, f"{NAME}:443"],
    ],
)
def test_addresses_local_names_and_listed_names_are_hosts(open_server: Local, host: str) -> None:
    assert open_server.get(PATH, f"Host: {host}") == 200


@pytest.mark.parametrize(
    "host",
    [
        *["evil.example", "evil.example:5000", "localhost.evil.example", "notlocalhost", "my-machine", "printer.local"],
        *["app.internal", f"x.{NAME}", "localhost.", "127.0.0.1.evil.example", "", "localhost:", "localhost:port"],
        *["localhost:0", "localhost:65536", "localhost:-1", "localhost:5000:80", "evil@localhost", "localhost/evil"],
        *["localhost#@evil.example", "localhost\\evil.example", "[::1", "[evil.example]", "127.1", "2130706433"],
        *["0x7f.0.0.1", "0177.0.0.1", "[::1]evil", "localhost evil.example", "l\u00f6calhost"],
    ],
)
def test_every_other_host_is_refused(open_server: Local, host: str) -> None:
    assert open_server.get(PATH, f"Host: {host}") == 421


def test_a_missing_host_or_two_hosts_are_refused(open_server: Local) -> None:
    assert open_server.get(PATH) == 421
    assert open_server.get(PATH, "Host: localhost", "Host: evil.example") == 421
    assert status_of(open_server.raw(f"GET {PATH} HTTP/1.0\r\n\r\n".encode())) == 421


def test_what_is_routed_is_the_path_and_not_the_host(keyed_server: Local) -> None:
    """CVE-2026-48710: an address composed of ``Host`` named another path than the routed one."""
    for host in ("localhost/health?", "localhost/health#", "127.0.0.1/livez"):
        assert keyed_server.get(PATH, f"Host: {host}") == 421
    for header in ("X-Forwarded-Host: localhost/health?", "X-Original-URL: /health", "X-Rewrite-URL: /health"):
        assert keyed_server.get(PATH, "Host: localhost", header) == 401
    assert keyed_server.get("http://localhost/health/../v1/models", "Host: localhost") in (401, 404)


@pytest.mark.parametrize(
    "origin",
    [
        *["null", "https://evil.example", "http://localhost.evil.example", "http://127.0.0.1", "http://127.0.0.1:1"],
        *["https://127.0.0.1:{port}", "http://localhost:{port}", "file://", "chrome-extension://abcdef", ""],
        *["http://127.0.0.1:{port}/", "http://evil.example\\@127.0.0.1:{port}", "http://user@127.0.0.1:{port}"],
        *[
            "http://127.0.0.1:{port}.evil.example",
            LISTED.replace("https", "http"),
            f"{LISTED}.evil.example",
            f"{LISTED}:1",
        ],
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_pages_of_other_origins_are_refused(open_server: Local, method: str, origin: str) -> None:
    answer = open_server.request(method, PATH, headers={"origin": origin.format(port=open_server.port)})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_two_origins_are_refused(open_server: Local) -> None:
    own = f"Origin: {open_server.url}"
    assert open_server.get(PATH, f"Host: 127.0.0.1:{open_server.port}", own) == 200
    assert open_server.get(PATH, f"Host: 127.0.0.1:{open_server.port}", own, own) == 403


def test_a_page_whose_name_was_rebound_to_this_machine_is_refused(open_server: Local) -> None:
    headers = {"host": "evil.example", "origin": "http://evil.example", "sec-fetch-site": "same-origin"}
    assert open_server.request("POST", PATH, headers=headers).status_code == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_requests_of_other_sites_that_could_change_something_are_refused(open_server: Local, method: str) -> None:
    refused = open_server.request(method, PATH, headers={"sec-fetch-site": "cross-site"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
    for site in ("same-origin", "same-site", "none"):
        assert open_server.request(method, PATH, headers={"sec-fetch-site": site}).status_code == 405


def test_a_listed_page_may_send_what_its_browser_asks_for(open_server: Local) -> None:
    asks = {
        "origin": LISTED,
        "access-control-request-method": "POST",
        "access-control-request-headers": "Authorization, content-type, x-stainless-os, x-api-key, x-evil",
        "access-control-request-private-network": "true",
    }
    answer = open_server.request("OPTIONS", "/v1/chat/completions", headers=asks)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == LISTED
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type, x-stainless-os, x-api-key"
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert "access-control-allow-credentials" not in answer.headers
    assert "*" not in "".join(answer.headers.values())


def test_a_listed_page_may_read_answers_and_errors(open_server: Local) -> None:
    headers = {"origin": LISTED, "sec-fetch-site": "cross-site"}
    for method, path, status in (("GET", PATH, 200), ("GET", "/v1/none", 404), ("POST", "/v1/chat/completions", 415)):
        answer = open_server.request(method, path, headers=headers)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, LISTED)
        assert answer.headers["vary"] == "origin"


def test_a_page_that_is_not_listed_gets_no_answer_to_its_preflight(open_server: Local) -> None:
    asks = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = open_server.request("OPTIONS", "/v1/chat/completions", headers=asks)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", [PATH, "/v1/models/none", "/nowhere", "/v1/chat/completions", "/health"])
def test_every_response_has_the_headers_that_browsers_obey(open_server: Local, path: str) -> None:
    headers = open_server.request("GET", path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "server" not in headers
