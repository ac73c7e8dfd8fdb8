"""Bodies: their type, size, time, encoding and form."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from gpux.errors import TooLargeError, UsageError
from gpux.server.api import endpoint
from gpux.server.api.endpoint import Api, Call, Endpoint
from gpux.server.api.session import error_body
from gpux.server.http import DEEPEST, MOST_NESTED, check_depth, decode_json, json_response, read_form
from gpux.server.security.limits import check_request
from gpux.server.workers.messages import Answer, Count, Embed, Generate, Rank, Tokenize
from tests.server.running import EMBEDDER
from tests.server.security.conftest import LISTED, Keys
from tests.server.security.serving import Local, local, settings, status_of
from tests.server.senses import PICTURES, png

CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "none/none", "messages": [{"role": "user", "content": "a"}]}).encode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json"}, 404),
        ({"content-type": "Application/JSON; charset=UTF-8"}, 404),
        ({"content-type": "application/json", "origin": "own"}, 404),
        ({}, 404),  # curl without options, Ollama's clients
        ({"content-type": "application/x-www-form-urlencoded"}, 404),  # curl -d
        ({"content-type": "application/x-www-form-urlencoded", "origin": "own"}, 415),
        ({"origin": "own"}, 415),
        ({"sec-fetch-site": "same-origin"}, 415),
        ({"content-type": "application/x-www-form-urlencoded", "sec-fetch-mode": "no-cors"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "text/plain", "origin": LISTED}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "application/json; charset=utf-7"}, 415),
        ({"content-type": "application/json, text/plain"}, 415),
        ({"content-type": "application/jsonx"}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "application/json", "content-encoding": "identity"}, 404),
        ({"content-type": "application/json", "content-encoding": "zstd, identity"}, 415),
    ],
)
def test_which_types_of_bodies_are_read(open_server: Local, headers: dict[str, str], status: int) -> None:
    given = {name: open_server.url if value == "own" else value for name, value in headers.items()}
    answer = open_server.request("POST", CHAT, content=BODY, headers=given)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    "body",
    [
        *[b"", b"{", b"[]", b"null", b'"x"', b"1", b"nan", b"\xff\xfe", b'\xef\xbb\xbf{"model": "x"}', b"{}{}"],
        *[b'{"model": "\\ud800"}', b'{"model": "\xed\xa0\x80"}', b'{"model": "\xff"}', b'{"model": NaN}'],
        *[b'{"model": Infinity}', b'{"model": 1e999}', b'{"model": ' + b"9" * 5000 + b"}", b'{"model": 1'],
        *[b'{"model": "x", "messages": [{"role": "user", "content": ' + b"9" * 400 + b"}]}"],
        *[b"[" * 100_000, b'{"a":' * 100_000, b"[]" * 300_000, b'"' + b'\\"' * 500_000, b"[" + b"[]," * 250_000],
        *[b'{"messages": ' + b"[" * 200 + b"]" * 200 + b"}", b"\x00" * 1000, b"]" * 1000 + b"[" * 1000],
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_body_that_is_not_the_expected_json_is_a_400(open_server: Local, body: bytes) -> None:
    started = time.monotonic()
    answer = open_server.request("POST", CHAT, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert time.monotonic() - started < 10  # no time that grows with the square of the size


def test_of_a_key_that_occurs_twice_the_last_counts() -> None:
    assert decode_json(b'{"a": 1, "b": 2, "a": 3}', dict[str, int]) == {"a": 3, "b": 2}


def test_brackets_in_texts_do_not_count_as_depth() -> None:
    deep = "[" * (2 * MOST_NESTED) + '\\"{'
    check_depth(json.dumps({"a": deep, "b": [[deep]]}).encode())
    for levels, fine in ((DEEPEST, True), (DEEPEST + 1, False), (900, False)):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            body = (opening * levels + "1" + closing * levels).encode()
            if fine:
                check_depth(body)
            else:
                with pytest.raises(UsageError, match="deeper"):
                    check_depth(body)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """A server that takes bodies of 10,000 bytes and waits half a second for them."""
    with local(settings(tmp_path_factory.mktemp("small"), max_body=10_000, body_timeout=0.5)) as running:
        yield running


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_a_413(small: Local, chunked: bool) -> None:
    content = [b"x" * 1000] * 50
    answer = small.request("POST", CHAT, content=iter(content) if chunked else b"".join(content))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too_large"


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(small: Local) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
    assert status_of(small.raw(head.encode(), end=False)) == 413


def test_a_body_that_is_not_sent_to_its_end_is_answered(small: Local) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nxx"
    assert status_of(small.raw(head.encode(), end=False)) == 408


def drip(server: Local, head: bytes) -> bytes:
    """What the server answers to a client that sends a byte ten times a second."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60.0) as connection:
        connection.sendall(head)
        connection.settimeout(0.1)
        for _ in range(600):
            try:
                if data := connection.recv(65536):
                    return data
                return b""
            except TimeoutError:
                pass
            try:
                connection.sendall(b"x")
            except OSError:
                return b""
    raise AssertionError("the server waits for ever")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n",
    ],
    ids=["request line", "headers", "body"],
)
def test_a_client_that_sends_a_byte_at_a_time_is_given_up(small: Local, head: bytes) -> None:
    assert drip(small, head)[9:12] in (b"408", b"400")


def test_a_connection_without_a_request_is_closed(small: Local) -> None:
    assert small.raw(b"", end=False).startswith(b"HTTP/1.1 408 ")


def test_a_pause_after_a_request_does_not_end_the_next_one(small: Local) -> None:
    request = f"GET /health HTTP/1.1\r\nHost: 127.0.0.1:{small.port}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", small.port), timeout=60.0) as connection:
        for _ in range(2):
            connection.sendall(request)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(0.8)  # longer than a request's head may take


@pytest.mark.parametrize("line", ["X: ", "GET /"])
def test_a_head_that_is_too_large_is_refused(open_server: Local, line: str) -> None:
    start = f"GET /health HTTP/1.1\r\nHost: localhost\r\n{line}" if line != "GET /" else line
    answer = open_server.raw(start.encode() + b"a" * 600_000, end=False)
    assert not answer or status_of(answer) in (400, 431)
    many = "".join(f"X-{number}: y\r\n" for number in range(100_000))
    answer = open_server.raw(f"GET /health HTTP/1.1\r\nHost: localhost\r\n{many}\r\n".encode(), end=False)
    assert not answer or status_of(answer) in (400, 431)


def test_more_inputs_or_longer_texts_than_allowed_are_a_413(filled_home: Path) -> None:
    with local(settings(filled_home, max_inputs=4, max_text=50)) as server:

        def embed(texts: list[str]) -> int:
            return server.request("POST", "/v1/embeddings", json={"model": EMBEDDER, "input": texts}).status_code

        assert (embed(["a"] * 4), embed(["a"] * 5), embed(["a" * 51])) == (200, 413, 413)


def test_a_picture_in_base64_is_not_limited_as_a_text(senses_home: Path) -> None:
    picture = base64.b64encode(png()).decode()
    with local(settings(senses_home, max_text=len(picture) - 1)) as server:
        for path, body in (
            (f"/models/{PICTURES}", {"inputs": picture}),
            (f"/models/{PICTURES}", {"inputs": f"data:image/png;base64,{picture}"}),
        ):
            answer = server.request("POST", path, json=body)
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "request_of",
    [
        lambda texts: Generate(0, [[{"role": "user", "content": text}] for text in texts], {}),
        lambda texts: Answer(0, [{"text": text} for text in texts], {}),
        lambda texts: Embed(0, texts, {}),
        lambda texts: Rank(0, "a", texts, {}),
        lambda texts: Rank(0, texts[0], ["a"] * len(texts), {}),
        lambda texts: Tokenize(0, texts),
        lambda texts: Count(0, texts),
    ],
)
def test_requests_of_every_kind_have_limits(tmp_path: Path, request_of: Callable[[list[str]], Any]) -> None:
    limits = settings(tmp_path, max_inputs=4, max_text=50)
    check_request(request_of(["a" * 50] * 4), limits)
    for texts in (["a"] * 5, ["a" * 51] * 4):
        with pytest.raises(TooLargeError):
            check_request(request_of(texts), limits)


# Forms


async def _parts(call: Call) -> Response:
    form = await read_form(call.request, call.core.settings)
    files = [[one.field, one.name, one.media_type, len(one.data)] for one in form.files]
    return json_response({"fields": dict(form.fields), "files": files})


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[tuple[Local, Local]]:
    """Servers with an endpoint that reads a form: without keys, and with."""
    home = tmp_path_factory.mktemp("forms")
    api = Api("forms", "/forms", (Endpoint("POST", "/forms", _parts, "infer"),), error_body)
    limits = {"max_body": 3 << 20, "max_inputs": 3, "allowed_origins": (LISTED,)}
    with local(settings(home, **limits)) as free, local(settings(home, api_keys=keys.file, **limits)) as keyed:
        for server in (free, keyed):
            server.app.router.routes.extend(endpoint.routes(api, server.core))
        yield free, keyed


def test_the_names_of_files_are_not_paths(forms: tuple[Local, Local]) -> None:
    free, _ = forms
    names = ["../../etc/passwd", "C:\\x\\y.png", "a\r\nb.png"]
    files = [("file", (name, b"12345", "image/png")) for name in names]
    answer = free.request("POST", "/forms", files=files, data={"model": "m"}).json()
    assert answer["fields"] == {"model": ["m"]}
    found = [one[1] for one in answer["files"]]
    assert found[:2] == ["passwd", "y.png"]
    assert all("/" not in name and name.isprintable() for name in found)


def test_the_parts_of_a_form_are_limited(forms: tuple[Local, Local]) -> None:
    free, _ = forms
    many_files = [("file", (f"{number}", b"x")) for number in range(4)]
    assert free.request("POST", "/forms", files=many_files).status_code == 400
    fields = {f"field{number}": "x" for number in range(100)}
    assert free.request("POST", "/forms", files={"file": b"x"}, data=fields).status_code == 400
    assert free.request("POST", "/forms", files={"file": b"x"}, data={"a": "x" * (2 << 20)}).status_code == 400
    assert free.request("POST", "/forms", files={"file": b"x" * (4 << 20)}).status_code == 413


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"--x"),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: b\r\n" * 10_000),
        ("multipart/form-data; boundary=" + "x" * 300, b"--" * 1000),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\ny\r\n--x--"),
    ],
    ids=["no boundary", "empty boundary", "many headers", "long boundary", "no name"],
)
def test_a_damaged_form_is_a_400(forms: tuple[Local, Local], kind: str, body: bytes) -> None:
    """CVE-2024-53981 and CVE-2026-42561 are of the parser's boundaries and headers."""
    free, _ = forms
    answer = free.request("POST", "/forms", content=body, headers={"content-type": kind})
    assert answer.status_code == 400
    assert free.request("POST", "/forms", json={}).status_code == 415


def test_a_page_of_another_origin_sends_forms_with_a_key_only(forms: tuple[Local, Local], keys: Keys) -> None:
    free, keyed = forms
    page = {"origin": LISTED, "sec-fetch-site": "cross-site"}
    assert free.request("POST", "/forms", files={"a": b"x"}, headers=page).status_code == 403
    assert free.request("POST", "/forms", files={"a": b"x"}, headers={"origin": free.url}).status_code == 200
    assert keyed.request("POST", "/forms", files={"a": b"x"}, headers=page).status_code == 401
    assert keyed.request("POST", "/forms", files={"a": b"x"}, headers=page | keys.header("infer")).status_code == 200
