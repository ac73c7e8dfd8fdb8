"""Random requests as bytes: whatever is sent, a server answers with a status below 500, or closes the connection."""

from __future__ import annotations

import socket

from hypothesis import strategies as st

METHODS = [
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "CONNECT",
    "PRI",
    "get",
    "G\x00T",
    "",
    "🐍",
]
PATHS = [
    *["/", "//", "*", "/v1/models", "/v1/models/", "/v1/chat/completions", "/health", "/metrics", "/gpux/v1/models"],
    *["/api/huggingface/models", "/api/huggingface/models/x/load", "/gpux/v1/session", "/openapi.json"],
]
PIECES = [
    *["..", "%2e%2e", "%2f", "%5c", "\\", "%00", "%ff", "%", "%zz", ";x", "?", "#", "&", "=", "[", "{}", "a" * 5000],
    *["%0d%0aX:%20y", "\u00e9", "//evil.example", "@evil", "/load", "/etc/passwd", "$(id)", "'", '"', "<x>", "load"],
]
NAMES = [
    *["Host", "Origin", "Content-Length", "Transfer-Encoding", "Content-Type", "Authorization", "X-API-Key", "Cookie"],
    *[
        "Range",
        "Expect",
        "Upgrade",
        "Connection",
        "Sec-Fetch-Site",
        "X-Request-ID",
        "X-Forwarded-For",
        "Content-Encoding",
    ],
    *["X-Forwarded-Proto", "Access-Control-Request-Method", "If-None-Match", "Accept-Encoding", "", "X Y", "Host "],
]
VALUES = [
    *["localhost", "evil.example", "null", "http://localhost", "0", "5", "-1", "+5", "5, 5", "99999999999999999999"],
    *["chunked", "identity", "gzip, chunked", "application/json", "multipart/form-data; boundary=x", "text/plain"],
    *["Bearer x", "Bearer", "gpux-session=x", "bytes=0-," + "0-," * 500, "100-continue", "websocket", "keep-alive"],
    *["cross-site", "POST", "\x00", "\x7f", "\u00e9", "x" * 9000, "", 'a=b; c="d'],
]
BODIES = [
    *[
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"model": "x"}',
        b'{"model": "../../etc", "messages": []}',
        b"\xff\x00",
        b"[" * 5000,
    ],
    *[b'{"model": "x/y", "messages": [{"role": "user", "content": "a"}], "max_tokens": -1}', b"0\r\n\r\n"],
    *[
        b'{"model_id": "x", "name": "\\u0000", "model_type": 5}',
        b'{"key": 99999999999999999999}',
        b'{"input": [1e400]}',
    ],
    *[b"5\r\n{}\r\n0\r\n\r\n", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n', b"x" * 9999],
]

paths = st.builds(
    lambda start, pieces: start + "".join(pieces), st.sampled_from(PATHS), st.lists(st.sampled_from(PIECES), max_size=3)
)
headers = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=5)
bodies = st.one_of(st.sampled_from(BODIES), st.binary(max_size=64))


def _request(method: str, path: str, given: list[tuple[str, str]], body: bytes, host: bool, length: bool) -> bytes:
    lines = [f"{method} {path} HTTP/1.1"]
    lines += ["Host: localhost"] if host else []
    lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"] if length else []
    lines += [f"{name}: {value}" for name, value in given]
    return "\r\n".join([*lines, "", ""]).encode() + body


requests = st.one_of(
    st.builds(_request, st.sampled_from(METHODS), paths, headers, bodies, st.booleans(), st.booleans()),
    # a method and a header that are right, so that most of these reach an endpoint
    st.builds(_request, st.sampled_from(METHODS[:4]), paths, st.just([]), bodies, st.just(True), st.just(True)),
    st.binary(max_size=200),
)


def answers(port: int, data: bytes) -> list[int]:
    """Statuses of the answers to bytes, after which nothing more is sent.

    Raises:
        TimeoutError: the server neither answers nor closes the connection.
    """
    seen = b""
    with socket.create_connection(("127.0.0.1", port), timeout=30.0) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                seen += part
        except (ConnectionError, BrokenPipeError):
            pass
    return [int(one[:3]) for one in seen.split(b"HTTP/1.1 ")[1:] if one[:3].isdigit()]
