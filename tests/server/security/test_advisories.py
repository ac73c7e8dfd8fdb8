"""Flaws that other model servers had, as far as no other test shows that gpux does not have them.

``docs/explanation/server-security.md`` lists the advisories with the test of each one.
"""

from __future__ import annotations

import pickle
import re
import socket
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import gpux.server
from gpux.server.app import APIS
from gpux.server.workers import framing
from tests.server.media.attacker import Attacker
from tests.server.media.test_requests import attacker  # noqa: F401 - a fixture
from tests.server.running import EMBEDDER, MASKS, WRITER, Running
from tests.server.security.conftest import Keys
from tests.server.security.serving import Local, local, settings, status_of

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "server-security.md"
SOURCES = Path(gpux.server.__file__).parent
#: API -> a request that names a model.
NAMING: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
    "anthropic": ("/v1/messages", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}),
    "ollama": ("/api/generate", {"prompt": "a"}),
    "tei": ("/embed", {"inputs": "a"}),
}


def test_every_advisory_of_the_page_names_tests_that_exist() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.search(r"(CVE|GHSA|GO)-\w+-\w", line)]
    named = {one for row in rows for one in re.findall(r"`(tests/\S+?)::(\w+)`", row)}
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}(" in (PAGE.parents[2] / file).read_text(encoding="utf-8"), (file, test)


@pytest.mark.parametrize("api", NAMING)
def test_the_name_of_a_model_does_not_show_which_files_exist(open_server: Local, api: str) -> None:
    """CVE-2024-39719; CVE-2024-39721: a device that never ends is not read."""
    path, body = NAMING[api]

    def shape(name: str) -> tuple[int, int]:
        """The status, and the number of words beside the name."""
        answer = open_server.request("POST", path, json={**body, "model": name})
        text = answer.text.split("req_")[0].replace(name, "").replace("…", "")
        return answer.status_code, len(re.findall(r"\w+", text))

    for there, absent in (
        ("/etc/passwd", "/etc/no-such-file"),
        ("/dev/zero", "/dev/no-such-device"),
        ("/dev/random", "/dev/no-such-device"),
        ("/proc/self/environ", "/proc/self/no-such-file"),
        ("../../../../../../etc/passwd", "../../../../../../etc/no-such-file"),
        ("./tests", "./no-such-folder"),
        ("file:///etc/passwd", "file:///etc/no-such-file"),
    ):
        assert shape(there) == shape(absent), there
        assert shape(there)[0] in (400, 404)


def _fields(kind: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a body and of what is in it."""
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            yield field.name, field.type
            yield from _fields(field.type)
    else:
        for inner in typing.get_args(kind):
            yield from _fields(inner)


def test_no_body_has_an_address_that_the_server_would_connect_to() -> None:
    """CVE-2024-10044, CVE-2026-7147: a worker or provider was registered by its address.

    That of a chat provider needs a key: ``tests/chat/api/test_configuration.py``.
    """
    provider = "/api/providers/{name}/config"
    bodies = [one.body for api in APIS for one in api.endpoints if one.body is not None and one.path != provider]
    names = {name for body in bodies for name, _ in _fields(body)}
    assert len(names) > 100
    assert not names & {"url", "base_url", "endpoint", "host", "proxy", "address", "server", "callback", "webhook"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/gpux/v1/pull", {"models": ["NAME"]}),
        ("/api/pull", {"model": "NAME", "stream": False}),
        ("/v1/completions", {"model": "NAME", "prompt": "a"}),
        ("/api/generate", {"model": "NAME", "prompt": "a"}),
    ],
)
def test_models_are_pulled_from_the_hub_alone(
    tmp_path: Path,
    attacker: Attacker,  # noqa: F811
    path: str,
    body: dict[str, Any],
) -> None:
    """CVE-2025-51471: a name led to another registry, whose answer got the token."""
    given = settings(tmp_path, allow_pull=True)
    hub = {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_TOKEN": "hf_" + "s" * 30, "GPUX_HOME": str(tmp_path)}
    given = settings(tmp_path, allow_pull=True, gpux=type(given.gpux).from_env(hub))
    seen = len(attacker.requests)
    with local(given) as server:
        for name in (
            f"http://127.0.0.1:{attacker.port}/org/name",
            f"127.0.0.1:{attacker.port}/org/name",
            f"hf:http://127.0.0.1:{attacker.port}/org/name",
            f"http://127.0.0.1:1@127.0.0.1:{attacker.port}/org/name",
            "https://huggingface.co.evil.example/org/name",
        ):
            sent = {key: [name] if value == ["NAME"] else value for key, value in body.items()}
            sent = {key: name if value == "NAME" else value for key, value in sent.items()}
            answer = server.request("POST", path, json=sent)
            assert 400 <= answer.status_code < 500, (name, answer.text)
            assert "hf_sss" not in answer.text
    assert len(attacker.requests) == seen


#: Whole numbers that overflow, or stand for something else where a program does not expect them.
NUMBERS = (-1, -(1 << 31), (1 << 31) - 1, 1 << 31, 1 << 32, -(1 << 63), (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 70)
WHOLE: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    (
        "/v1/chat/completions",
        {"model": WRITER, "messages": [{"role": "user", "content": "a"}]},
        ("max_tokens", "max_completion_tokens", "n", "seed", "top_logprobs"),
    ),
    ("/v1/completions", {"model": WRITER, "prompt": "a"}, ("max_tokens", "n", "seed", "logprobs", "best_of")),
    ("/v1/embeddings", {"model": EMBEDDER, "input": "a"}, ("dimensions",)),
    ("/v1/responses", {"model": WRITER, "input": "a"}, ("max_output_tokens", "top_logprobs")),
    ("/v1/messages", {"model": WRITER, "messages": [{"role": "user", "content": "a"}]}, ("max_tokens", "top_k")),
    (
        "/api/generate",
        {"model": WRITER, "prompt": "a", "stream": False},
        (
            *("keep_alive", "top_logprobs", "options.num_predict", "options.top_k", "options.seed", "options.num_ctx"),
            *("options.num_keep", "options.repeat_last_n"),
        ),
    ),
    (
        f"/models/{WRITER}",
        {"inputs": "a"},
        (
            *("parameters.max_new_tokens", "parameters.top_k", "parameters.seed", "parameters.top_n_tokens"),
            *("parameters.no_repeat_ngram_size", "parameters.num_return_sequences", "parameters.min_new_tokens"),
        ),
    ),
    (f"/models/{MASKS}", {"inputs": "a [MASK]"}, ("parameters.top_k",)),
    ("/v1/rerank", {"model": EMBEDDER, "query": "a", "documents": ["b"]}, ("top_n",)),
    ("/decode", {"model": EMBEDDER}, ("ids",)),
)


@pytest.mark.parametrize(("path", "body", "places"), WHOLE, ids=[row[0] for row in WHOLE])
def test_whole_numbers_of_any_size_are_checked(
    server: Running, path: str, body: dict[str, Any], places: tuple[str, ...]
) -> None:
    """CVE-2026-21869: a negative number was taken for a count of tokens."""
    with server.client() as client:
        for place in places:
            for number in NUMBERS:
                outer, _, inner = place.partition(".")
                value = {inner: number} if inner else [number] if outer == "ids" else number
                answer = client.post(path, json={**body, outer: value})
                assert answer.status_code in (200, 400, 413, 422), (place, number, answer.text)


def test_a_body_of_many_small_chunks_is_one_body(open_server: Local) -> None:
    """CVE-2025-23310, CVE-2025-23311: memory on the stack for each chunk."""
    body = b'{"model": "none/none", "messages": [{"role": "user", "content": "' + b"a" * 100_000 + b'"}]}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    whole = head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks
    assert status_of(open_server.raw(whole, end=False)) == 404


def test_ranges_of_a_response_are_not_computed(open_server: Local) -> None:
    """CVE-2025-62727: time that grows with the square of their number."""
    ranges = "bytes=" + ",".join(f"{number}-" for number in range(5000))
    for path in ("/v1/models", "/openapi.json", "/metrics", "/"):
        plain = open_server.request("GET", path)
        answer = open_server.request("GET", path, headers={"range": ranges})
        assert answer.status_code == plain.status_code != 206
        assert len(answer.content) > 0


def test_a_key_has_its_scopes_in_every_header(keyed_server: Local, keys: Keys) -> None:
    """CVE-2026-45339: a key was not restricted in ``X-API-Key``."""
    for scope, allowed in (("read", 200), ("infer", 403), ("manage", 403)):
        key = getattr(keys, scope)
        for headers in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}):
            assert keyed_server.request("GET", "/v1/models", headers=headers).status_code == allowed


def test_without_a_key_no_body_is_read(keyed_server: Local) -> None:
    """CVE-2024-12537: forms of anyone were parsed."""
    for path in ("/v1/audio/transcriptions", "/models/x", "/v1/chat/completions", "/api/huggingface/pipeline"):
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
        form = "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        with socket.create_connection(("127.0.0.1", keyed_server.port), timeout=20.0) as connection:
            connection.sendall((head + form).encode())
            assert status_of(connection.recv(65536)) in (401, 429)  # before the rest of the body, and its time limit


@pytest.mark.parametrize("prefix", ["", *sorted({api.prefix for api in APIS if api.prefix})])
def test_an_unknown_path_is_not_answered_with_200(open_server: Local, prefix: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE"):
        answer = open_server.request(method, f"{prefix.rstrip('/')}/no/such/path", json={})
        assert answer.status_code in (400, 404, 405, 415), (method, prefix, answer.status_code)


def test_processes_exchange_no_pickles() -> None:
    """CVE-2026-7301, CVE-2026-7302: a pickle from the network runs code."""
    with pytest.raises(msgspec.DecodeError):
        framing.decode_from_worker(pickle.dumps({"type": "closed"}))
    modules = [path for path in SOURCES.rglob("*.py") if re.search(r"\b(pickle|marshal|shelve)\b", path.read_text())]
    assert modules == []


@pytest.mark.parametrize("path", ["/", "/v1/chat/completions", "/v1/realtime", "/gpux/v1/events"])
def test_websockets_are_refused(keyed_server: Local, path: str) -> None:
    """CVE-2026-35523, CVE-2026-35526: they passed the check of keys, or had no limits."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket"]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""]
    answer = keyed_server.raw("\r\n".join(lines).encode(), end=True)
    assert not answer.startswith(b"HTTP/1.1 101")
    assert status_of(answer) in (200, 401, 403, 404, 405, 426)
