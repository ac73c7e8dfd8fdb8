"""Every kind of fault, as a client receives it."""

from __future__ import annotations

import gzip
import http.client
import time
from typing import Any

import pytest

from tests.hub import Fault, HubServer
from tests.hub.conftest import FILES, ONNX
from tests.hub.wire import CONFIG, ask, read_raw


def test_fault_status_counts(hub: HubServer) -> None:
    fault = Fault("status", path="config.json", status=429, headers={"Retry-After": "1"}, times=2, skip=1)
    hub.add_fault(fault)
    assert [ask(hub.url + CONFIG).status for _ in range(4)] == [200, 429, 429, 200]
    assert hub.strikes(fault) == 2
    hub.add_fault(Fault("status", method="HEAD", listener="cdn"))
    assert ask(hub.url + CONFIG).status == 200


def test_faults_are_applied_in_order(hub: HubServer) -> None:
    latency = Fault("latency", seconds=0.2, times=2)
    hub.add_fault(latency)
    hub.add_fault(Fault("status", status=502))
    hub.add_fault(Fault("status", status=503, headers={"X-Error-Code": "Custom"}, body=b"busy"))
    begin = time.monotonic()
    answers = [ask(hub.url + CONFIG) for _ in range(3)]
    assert [answer.status for answer in answers] == [502, 503, 200]
    assert (answers[1].body, answers[1].headers["x-error-code"]) == (b"busy", "Custom")
    assert time.monotonic() - begin >= 0.4
    assert hub.strikes(latency) == 2


def test_fault_headers(hub: HubServer) -> None:
    hub.add_fault(Fault("headers", headers={"X-HF-Warning": "t; m"}, remove=("x-repo-commit", "etag")))
    answer = ask(hub.url + CONFIG)
    assert answer.headers["x-hf-warning"] == "t; m"
    assert not {"x-repo-commit", "etag"} & set(answer.headers)
    assert answer.body == FILES["config.json"]


def test_fault_drop_and_hang(hub: HubServer) -> None:
    hub.add_fault(Fault("drop"))
    hub.add_fault(Fault("hang", seconds=0.3))
    for shortest in (0, 0.3):
        begin = time.monotonic()
        with pytest.raises(http.client.RemoteDisconnected):
            ask(hub.url + CONFIG)
        assert time.monotonic() - begin >= shortest
    assert [request.status for request in hub.requests] == [0, 0]


@pytest.mark.parametrize(("kind", "error"), [("close", None), ("reset", ConnectionResetError)])
@pytest.mark.parametrize("after", [0, 1000, 200_000])
def test_fault_cut(hub: HubServer, cdn: str, kind: Any, error: type[Exception] | None, after: int) -> None:
    hub.add_fault(Fault(kind, path="model.onnx", after=after))
    headers, body, raised = read_raw(cdn)
    assert (int(headers["content-length"]), body) == (len(ONNX), ONNX[:after])
    assert raised is error
    assert hub.requests[0].bytes_sent == after


def test_fault_stall(hub: HubServer, cdn: str) -> None:
    hub.add_fault(Fault("stall", path="model.onnx", after=1000, seconds=0.3))
    begin = time.monotonic()
    assert ask(cdn).body == ONNX
    assert time.monotonic() - begin >= 0.3


def test_fault_lengths(hub: HubServer, cdn: str) -> None:
    hub.add_fault(Fault("short_length", listener="cdn", after=1000))
    headers, body, raised = read_raw(cdn)
    assert (headers["content-length"], body, raised) == ("1000", ONNX[:1000], None)
    hub.add_fault(Fault("no_length", listener="cdn"))
    headers, body, raised = read_raw(cdn)
    assert ("content-length" in headers, headers["connection"], body) == (False, "close", ONNX)


def test_fault_flip_meets_the_range_that_holds_its_byte(hub: HubServer, cdn: str) -> None:
    hub.add_fault(Fault("flip", offset=2000))
    assert ask(cdn, Range="bytes=0-1999").body == ONNX[:2000]
    assert ask(cdn, Range="bytes=1990-").body == ONNX[1990:2000] + bytes([ONNX[2000] ^ 255]) + ONNX[2001:]
    assert ask(cdn).body == ONNX


def test_fault_ignore_range(hub: HubServer, cdn: str) -> None:
    hub.add_fault(Fault("ignore_range"))
    answer = ask(cdn, Range="bytes=5-")
    assert (answer.status, answer.body, "content-range" in answer.headers) == (200, ONNX, False)


def test_fault_gzip(hub: HubServer) -> None:
    hub.add_fault(Fault("gzip"))
    answer = ask(hub.url + CONFIG)
    assert (answer.headers["content-encoding"], answer.headers["transfer-encoding"]) == ("gzip", "chunked")
    assert gzip.decompress(answer.body) == FILES["config.json"]


def test_fault_throttle(hub: HubServer, cdn: str) -> None:
    hub.add_fault(Fault("throttle", path="model.onnx", rate=len(ONNX) * 2))
    begin = time.monotonic()
    assert ask(cdn).body == ONNX
    assert time.monotonic() - begin >= 0.4


def test_fault_on_strike_is_called_before_the_reply(hub: HubServer, cdn: str) -> None:
    hub.add_fault(Fault("close", listener="cdn", after=1000, on_strike=hub.expire_cdn_urls))
    _, body, _ = read_raw(cdn)
    assert body == ONNX[:1000]
    assert ask(cdn).status == 403
