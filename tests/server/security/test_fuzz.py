"""Random and smuggled requests. `./dev server_fuzz` sends 5,000 of the random ones."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples

from tests.server.security.fuzzing import answers, requests
from tests.server.security.serving import Local, local, settings, status_of


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with local(settings(tmp_path_factory.mktemp("fuzz"), body_timeout=1.0)) as server:
        yield server


@examples(
    max_examples=int(os.environ.get("GPUX_FUZZ", "60")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=requests)
def test_no_bytes_are_a_server_error(fuzzed: Local, data: bytes) -> None:
    assert [status for status in answers(fuzzed.port, data) if status >= 500] == []


POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
        b"Content-Length: +0\r\n\r\n",
        b"Content-Length: 0x0\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length : 0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: identity\r\n\r\n",
        b"Transfer-Encoding\x0b: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n",
    ],
    ids=lambda head: repr(head[:40]),
)
def test_a_body_whose_length_is_unclear_ends_the_connection(fuzzed: Local, head: bytes) -> None:
    """Where a proxy and the server disagree about a body's end, its rest would be a request of its own."""
    answer = fuzzed.raw(POST + head + SMUGGLED, end=False)
    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1
