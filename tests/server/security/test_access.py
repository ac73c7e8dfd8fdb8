"""Keys and scopes on every route, and sessions of browsers."""

from __future__ import annotations

import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.routing import Route

from gpux.server.api.endpoint import Endpoint
from gpux.server.app import APIS
from gpux.server.security.access import Attempts
from gpux.server.security.keys import create_key, read_keys, revoke_key
from tests.server.security.conftest import LISTED, Keys
from tests.server.security.serving import Local, local, settings

#: Every route that needs no key: whether the server lives, and the login.
OPEN = {
    *[("GET", path) for path in ("/", "/health", "/healthz", "/livez", "/live", "/ping", "/readyz", "/ready")],
    *[(method, "/gpux/v1/session") for method in ("GET", "POST", "DELETE")],
}


def routes(app: object) -> Iterator[tuple[str, str]]:
    for route in app.routes:  # type: ignore[attr-defined]
        assert isinstance(route, Route), route
        for method in route.methods or ():
            yield method, route.path


def test_every_route_but_those_of_the_list_needs_a_key(keyed_server: Local) -> None:
    found = list(routes(keyed_server.app))
    assert len(found) > 5
    for method, path in found:
        if method == "HEAD" or (method, path) in OPEN:
            continue
        concrete = re.sub(r"\{\w+(:\w+)?\}", "x", path)
        for headers in ({}, {"authorization": "Bearer gpux_wrong"}, {"cookie": "gpux-session=x"}):
            answer = keyed_server.request(method, concrete, headers=headers)
            assert answer.status_code in (401, 429), (method, path)
            if answer.status_code == 401:
                assert answer.headers["www-authenticate"] == "Bearer"


def test_every_route_needs_the_scope_that_it_names(keyed_server: Local, keys: Keys) -> None:
    for api in APIS:
        for one in api.endpoints:
            if one.scope == "open":
                continue
            path = re.sub(r"\{\w+(:\w+)?\}", "x", one.path)
            for scope in {"read", "infer", "manage"} - {one.scope}:
                answer = keyed_server.request(one.method, path, headers=keys.header(scope))
                assert answer.status_code == 403
                assert one.method == "HEAD" or f"needs {one.scope}" in answer.text


def test_nothing_is_changed_by_get() -> None:
    endpoints = [one for api in APIS for one in api.endpoints]
    assert {one.scope for one in endpoints if one.method == "GET"} <= {"open", "read"}
    with pytest.raises(ValueError, match="changes nothing"):
        Endpoint("GET", "/x", endpoints[0].handler, "manage")


def test_a_key_is_read_from_either_header(keyed_server: Local, keys: Keys) -> None:
    for headers in (keys.header("read"), {"x-api-key": keys.read}, {"authorization": f"bearer  {keys.read}"}):
        assert keyed_server.request("GET", "/v1/models", headers=headers).status_code == 200
    both = {**keys.header("read"), "x-api-key": keys.all}
    assert keyed_server.request("GET", "/v1/models", headers=both).status_code == 401
    for wrong in ("Basic eDp5", keys.read, "Bearer", f"Bearer {keys.read}x", f"Bearer {keys.read.upper()}"):
        assert keyed_server.request("GET", "/v1/models", headers={"authorization": wrong}).status_code in (401, 429)


@pytest.mark.parametrize("name", ["api_key", "key", "token", "access_token", "X-API-Key", "anything"])
def test_a_key_in_the_address_is_refused_and_said_so(keyed_server: Local, keys: Keys, name: str) -> None:
    answer = keyed_server.request("GET", "/v1/models", params={name: keys.all})
    assert answer.status_code == 401
    assert "a key in the address is not read" in answer.json()["error"]["message"]
    assert keys.all not in answer.text


def test_without_keys_everything_is_allowed_on_loopback(open_server: Local) -> None:
    assert open_server.request("GET", "/v1/models").status_code == 200
    assert open_server.request("GET", "/gpux/v1/session").json()["needs_key"] is False


def test_a_right_key_is_accepted_after_any_number_of_wrong_ones(keyed_server: Local, keys: Keys) -> None:
    wrong = {"authorization": "Bearer gpux_wrong"}
    answers = [keyed_server.request("GET", "/v1/models", headers=wrong) for _ in range(Attempts.allowed + 1)]
    assert answers[-1].status_code == 429
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert keyed_server.request("GET", "/v1/models", headers=keys.header("read")).status_code == 200


def test_the_addresses_of_wrong_keys_are_bounded() -> None:
    attempts = Attempts()
    for number in range(3 * attempts.addresses):
        attempts.add(f"10.0.{number // 256}.{number % 256}")
    assert len(attempts._counts) == attempts.addresses


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    old, _ = create_key(file, "old")
    with local(settings(tmp_path, api_keys=file)) as server:

        def status(key: str) -> int:
            return server.request("GET", "/v1/models", headers={"x-api-key": key}).status_code

        new, _ = create_key(file, "new")
        assert (status(old), status(new)) == (200, 200)
        revoke_key(file, "old")
        assert (status(old), status(new)) == (401, 200)
        file.write_text("{")
        assert status(new) == 200  # a damaged file leaves the keys as they were
        file.unlink()
        assert status(new) == 401


def test_a_key_that_has_expired_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key, _ = create_key(file, "short", expires=int(time.time()) + 2)
    with local(settings(tmp_path, api_keys=file)) as server:
        while server.request("GET", "/v1/models", headers={"x-api-key": key}).status_code == 200:
            time.sleep(0.05)
        assert read_keys(file)[0].expired()


def test_the_file_has_no_key_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key, _ = create_key(file, "laptop")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key.removeprefix("gpux_") not in file.read_text()
    assert len(key) >= 43


def log_in(server: Local, key: str, **headers: str) -> tuple[int, str]:
    given = {"origin": server.url, "sec-fetch-site": "same-origin", **headers}
    answer = server.request("POST", "/gpux/v1/session", json={"key": key}, headers=given)
    return answer.status_code, answer.headers.get("set-cookie", "")


def test_a_browser_logs_in_with_a_key_and_out_again(keyed_server: Local, keys: Keys) -> None:
    status, cookie = log_in(keyed_server, keys.read)
    assert status == 200
    assert re.search(r"; HttpOnly", cookie) and re.search(r"; SameSite=Strict", cookie) and "Path=/" in cookie
    assert keys.read not in cookie and "Secure" not in cookie
    page = {"cookie": cookie.partition(";")[0], "sec-fetch-site": "same-origin"}
    assert keyed_server.request("GET", "/v1/models", headers=page).status_code == 200
    assert keyed_server.request("GET", "/gpux/v1/session", headers=page).json()["scopes"] == ["read"]
    refused = keyed_server.request(
        "POST", "/v1/chat/completions", headers={**page, "origin": keyed_server.url}, json={}
    )
    assert refused.status_code == 403  # as the key
    out = keyed_server.request("DELETE", "/gpux/v1/session", headers={**page, "origin": keyed_server.url})
    assert out.status_code == 204
    assert keyed_server.request("GET", "/v1/models", headers=page).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site"},
        {"origin": LISTED},
        {"origin": LISTED, "sec-fetch-site": "cross-site"},
    ],
)
def test_the_cookie_is_accepted_from_the_servers_own_pages_only(
    keyed_server: Local, keys: Keys, headers: dict[str, str]
) -> None:
    _, cookie = log_in(keyed_server, keys.read)
    given = {"cookie": cookie.partition(";")[0], **headers}
    assert keyed_server.request("GET", "/v1/models", headers=given).status_code == 401


def test_a_wrong_key_starts_no_session(keyed_server: Local) -> None:
    status, cookie = log_in(keyed_server, "gpux_wrong")
    assert status in (401, 429)
    assert not cookie


def test_a_session_ends_with_its_key(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    create_key(file, "other")
    key, _ = create_key(file, "laptop")
    with local(settings(tmp_path, api_keys=file)) as server:
        _, cookie = log_in(server, key)
        page = {"cookie": cookie.partition(";")[0], "sec-fetch-site": "same-origin"}
        assert server.request("GET", "/v1/models", headers=page).status_code == 200
        revoke_key(file, "laptop")
        assert server.request("GET", "/v1/models", headers=page).status_code == 401
        assert server.request("GET", "/gpux/v1/session", headers=page).json()["scopes"] == []
