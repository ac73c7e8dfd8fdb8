"""One retry policy for every request: metadata, pages, checks and files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest

from gpux import HuggingFaceManager, Settings, check_access, errors, pull_model
from gpux.cli.main import run
from gpux.download import hub_api, retry
from gpux.download.retry import METADATA_POLICY, RetryPolicy, describe_wait
from gpux.errors import HubServerError, NetworkError, RateLimitError
from gpux.model.reference import ModelRef
from gpux.system.cancel import CancelToken
from gpux.system.progress import Event, Warned, waits_reported
from tests.hub import Fault, HubServer

pytestmark = pytest.mark.hub
MODEL = "tiny/embed"


def _tree(manager: HuggingFaceManager) -> Any:
    return manager._hub().tree(MODEL, "main")


def _head(manager: HuggingFaceManager) -> Any:
    return manager._hub().head(MODEL, "main", "config.json")


def _scans(manager: HuggingFaceManager) -> Any:
    return manager._hub().scans(MODEL, "main", ["config.json"])


CALLS: dict[str, Callable[[HuggingFaceManager], Any]] = {
    "resolve": lambda manager: manager.resolve(MODEL),
    "page": lambda manager: manager.page(MODEL),
    "refs": lambda manager: manager.list_revisions(MODEL),
    "search": lambda manager: manager.search_models("tiny"),
    "whoami": lambda manager: manager.whoami(),
    "space": lambda manager: manager.get_space_info(ModelRef("hf", "acme/demo")),
    "tree": _tree,
    "head": _head,
    "scans": _scans,
}
RECOVERS = {
    "429": Fault("status", status=429),
    "429 seconds": Fault("status", status=429, headers={"Retry-After": "0"}),
    "429 date": Fault("status", status=429, headers={"Retry-After": formatdate(time.time(), usegmt=True)}),
    "429 rate limit": Fault("status", status=429, headers={"RateLimit": '"api";r=0;t=0'}),
    "500": Fault("status", status=500),
    "502": Fault("status", status=502, times=2),
    "503": Fault("status", status=503),
    "503 seconds": Fault("status", status=503, headers={"Retry-After": "0"}),
    "504": Fault("status", status=504, times=3),
    "drop": Fault("drop"),
    "drops": Fault("drop", times=3),
}
#: Faults of the body of a GET request.
INCOMPLETE = {
    "reset": Fault("reset", after=10),
    "closed early": Fault("close", after=10),
    "without a length": Fault("status", status=200, body=b'{"id": "tiny/em'),
    "empty": Fault("status", status=200, body=b""),
    "within a text": Fault("status", status=200, body=b'{"id": "tiny/embed", "tags": ["x'),
}


@pytest.fixture
def manager(settings: Settings) -> HuggingFaceManager:
    return HuggingFaceManager(settings, token="hf_good")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", RECOVERS)
def test_every_call_recovers(hub: HubServer, manager: HuggingFaceManager, call: str, fault: str) -> None:
    hub.add_fault(RECOVERS[fault])

    CALLS[call](manager)

    assert hub.strikes(RECOVERS[fault]) == RECOVERS[fault].times
    assert len(hub.requests) == (RECOVERS[fault].times or 0) + 1


@pytest.mark.parametrize("fault", INCOMPLETE)
def test_an_incomplete_body_is_requested_again(hub: HubServer, manager: HuggingFaceManager, fault: str) -> None:
    hub.add_fault(INCOMPLETE[fault])

    assert manager.resolve(MODEL).id == MODEL
    assert hub.strikes(INCOMPLETE[fault]) == 1


def test_the_wait_that_the_hub_states_is_kept_and_reported(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.add_fault(Fault("status", status=429, headers={"Retry-After": "1"}))
    events: list[Event] = []

    with waits_reported(events.append):
        manager.resolve(MODEL)

    first, second = hub.requests
    assert second.time - first.time >= 1
    assert [event.message for event in events if isinstance(event, Warned)] == ["the Hub answered 429; waiting 1 s"]


def test_a_short_wait_is_not_reported(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.add_fault(Fault("status", status=429, headers={"Retry-After": "0"}))
    events: list[Event] = []

    with waits_reported(events.append):
        manager.resolve(MODEL)

    assert len(hub.requests) == 2
    assert events == []


def test_every_page_of_a_search_is_retried(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.options.list_page_size = 3
    hub.add_fault(Fault("status", path="cursor", status=503, times=2))

    whole = [info.id for info in manager.search_models(limit=50)]

    assert len(whole) == len(set(whole)) > 6
    assert [request.status for request in hub.requests][:4] == [200, 503, 503, 200]


def test_every_page_of_a_tree_is_retried(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.options.tree_page_size = 2
    whole = {file.path for file in manager.resolve(MODEL).files}
    dropped = Fault("drop", path="cursor", times=2)
    hub.add_fault(dropped)

    assert {file.path for file in _tree(manager)} == whole
    assert hub.strikes(dropped) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 422, 451, 501, 505, 511])
def test_a_refusal_is_not_retried(hub: HubServer, settings: Settings, status: int) -> None:
    hub.add_fault(Fault("status", status=status, times=None))

    with pytest.raises(errors.ManagerError):
        HuggingFaceManager(settings).resolve(MODEL)

    assert len(hub.requests) == 1


@pytest.mark.parametrize("body", [b"<html>sign in</html>", b"[]", b"nonsense", b"\xff\xfe", b'{"id": 1} x'])
def test_a_response_that_is_not_from_a_hub_is_not_retried(hub: HubServer, settings: Settings, body: bytes) -> None:
    hub.add_fault(Fault("status", status=200, body=body, times=None))

    with pytest.raises(errors.HubServerError, match="invalid description") as caught:
        HuggingFaceManager(settings).resolve(MODEL)

    assert len(hub.requests) == 1
    assert caught.value.hint == "Is HF_ENDPOINT the address of a Hub?"


def test_redirects_in_a_circle_end(hub: HubServer, settings: Settings) -> None:
    hub.add_fault(Fault("status", status=307, headers={"Location": f"/api/models/{MODEL}"}, times=None))

    with pytest.raises(errors.HubServerError, match="redirects"):
        HuggingFaceManager(settings).resolve(MODEL)

    assert len(hub.requests) == 8


def test_the_token_does_not_follow_a_redirect_to_another_host(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.add_fault(Fault("status", status=307, headers={"Location": f"{hub.cdn_url}/api/models/{MODEL}"}))

    with pytest.raises(errors.ManagerError):
        manager.resolve(MODEL)

    origin, cdn = hub.requests
    assert (origin.listener, cdn.listener) == ("origin", "cdn")
    assert origin.headers["Authorization"] == "Bearer hf_good"
    assert "Authorization" not in cdn.headers


def test_offline_fails_at_once(hub: HubServer, settings: Settings) -> None:
    offline = HuggingFaceManager(settings, offline=True, token="hf_good")
    for name in ("resolve", "page", "refs", "search", "whoami", "space"):
        with pytest.raises(errors.OfflineError):
            CALLS[name](offline)
    assert hub.requests == []


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("status", status=429, times=None), errors.RateLimitError),
        (Fault("status", status=429, headers={"Retry-After": "3600"}, times=None), errors.RateLimitError),
        (Fault("status", status=503, times=None), errors.HubServerError),
        (Fault("drop", times=None), errors.NetworkError),
        (Fault("reset", after=5, times=None), errors.NetworkError),
    ],
    ids=["429", "429 for an hour", "503", "drop", "reset"],
)
def test_a_fault_that_stays_is_raised_at_the_deadline(
    hub: HubServer, settings: Settings, fault: Fault, kind: type[errors.GpuxError]
) -> None:
    hub.add_fault(fault)

    with pytest.raises(kind) as caught:
        HuggingFaceManager(settings).resolve(MODEL)

    assert type(caught.value) is kind
    assert (len(hub.requests) == 1) == ("3600" in fault.headers.values())
    hub.clear_faults()  # what the hint says: try again
    assert HuggingFaceManager(settings).resolve(MODEL).id == MODEL


def test_a_wait_can_be_cancelled(hub: HubServer, manager: HuggingFaceManager) -> None:
    cancel = CancelToken()
    hub.add_fault(Fault("status", status=429, headers={"Retry-After": "100"}, times=None))
    reported: list[Event] = []

    def stop(event: Event) -> None:
        reported.append(event)
        cancel.cancel()

    with waits_reported(stop), pytest.raises(errors.CancelledError):
        manager.resolve(MODEL, cancel=cancel)

    assert [event.message[:31] for event in reported if isinstance(event, Warned)] == [
        "the Hub answered 429; waiting 1"
    ]
    assert len(hub.requests) == 1


def test_an_abandoned_request_ends_with_its_thread(hub: HubServer, settings: Settings) -> None:
    """No thread is left that sends further requests."""
    before = set(threading.enumerate())
    cancel = CancelToken()
    hub.add_fault(Fault("hang", times=None, on_strike=cancel.cancel))

    with pytest.raises(errors.CancelledError):
        HuggingFaceManager(settings).resolve(MODEL, cancel=cancel)

    for thread in set(threading.enumerate()) - before:
        if thread.name == "gpux-hub":
            thread.join()
    assert len(hub.requests) == 1


@pytest.mark.usefixtures("impatient")
def test_a_silent_hub_is_left_after_two_timeouts(
    hub: HubServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborted = threading.Event()
    monkeypatch.setattr(hub_api.HubHttp, "send", lambda *args, **others: aborted.wait())
    monkeypatch.setattr(hub_api.HubHttp, "abort", lambda self: aborted.set())

    with pytest.raises(errors.NetworkError, match="no response for"):
        HuggingFaceManager(settings, timeout=0.1).resolve(MODEL)


@pytest.mark.usefixtures("waits_announced")
def test_a_pull_waits_and_says_so(hub: HubServer, settings: Settings) -> None:
    limited = {"status": 429, "headers": {"Retry-After": "0"}}
    hub.add_fault(Fault("status", path="/api/models", **limited))  # type: ignore[arg-type]
    hub.add_fault(Fault("status", path="onnx/model.onnx", **limited))  # type: ignore[arg-type]
    events: list[Event] = []

    pull_model("tiny/classify", settings=settings, progress=events.append)

    waits = [event.message for event in events if isinstance(event, Warned) and "waiting" in event.message]
    assert [wait[:29] for wait in waits] == ["the Hub answered 429; waiting"] * 2


@pytest.mark.usefixtures("waits_announced")
@pytest.mark.parametrize(
    "command", [["info", MODEL], ["search", "tiny"], ["revisions", MODEL], ["check", MODEL]], ids=str
)
def test_commands_say_that_they_wait(hub: HubServer, capfd: pytest.CaptureFixture[str], command: list[str]) -> None:
    hub.add_fault(Fault("status", status=429, headers={"Retry-After": "0"}))

    assert run(command) == 0
    assert "! the Hub answered 429; waiting " in capfd.readouterr().err
    hub.add_fault(Fault("status", status=429, headers={"Retry-After": "0"}))
    assert run(["--quiet", *command]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("waits_announced")
def test_many_checks_say_that_they_wait(hub: HubServer, settings: Settings) -> None:
    hub.add_fault(Fault("status", status=503, headers={"Retry-After": "0"}))
    events: list[Event] = []

    with waits_reported(events.append):
        from gpux.huggingface.access import check_many

        assert [report.downloads for report in check_many([MODEL, "tiny/fill"], settings=settings)] == [True, True]

    assert len(events) == 1


def test_check_access_survives_a_fault_of_its_second_request(hub: HubServer, settings: Settings) -> None:
    fault = Fault("status", method="HEAD", status=502)
    hub.add_fault(fault)

    assert check_access(MODEL, settings=settings).downloads
    assert hub.strikes(fault) == 1


@pytest.mark.usefixtures("waits_announced")
def test_ranged_reads_follow_the_same_policy(hub: HubServer, manager: HuggingFaceManager) -> None:
    info = manager.resolve(MODEL)
    hub.add_fault(Fault("status", path="resolve", status=429, headers={"Retry-After": "0"}))
    events: list[Event] = []

    with waits_reported(events.append), manager.open_reads(info) as reads:
        assert len(reads.read("model.safetensors", 0, 8)) == 8

    assert [event.message[:29] for event in events if isinstance(event, Warned)] == ["the Hub answered 429; waiting"]


def test_a_compressed_response_is_read(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.add_fault(Fault("gzip"))

    assert manager.resolve(MODEL).id == MODEL


def test_idle_connections_are_used_again(hub: HubServer, manager: HuggingFaceManager) -> None:
    manager.resolve(MODEL)
    address = None
    for connection in hub._listeners[0].connections:
        address = connection.getpeername()
    manager.list_revisions(MODEL)

    assert [connection.getpeername() for connection in hub._listeners[0].connections] == [address]


def test_the_policy_of_metadata() -> None:
    """Two attempts for a silent Hub, two minutes for a stated wait, two seconds without a connection."""
    policy = replace(METADATA_POLICY, deadline=METADATA_POLICY.deadline * 10)
    assert (policy.deadline, policy.stated, policy.unconnected) == (20.0, 120.0, 2.0)
    retry.Retry(policy).delay_after(RateLimitError("429", retry_after=100), 0.0, got=False)
    with pytest.raises(RateLimitError):
        retry.Retry(policy).delay_after(RateLimitError("429", retry_after=121), 0.0, got=False)
    with pytest.raises(NetworkError):
        retry.Retry(replace(policy, first=3)).delay_after(NetworkError("no", connected=False), 0.0, got=False)
    retry.Retry(replace(policy, first=3)).delay_after(NetworkError("no", connected=True), 0.0, got=False)


@pytest.mark.parametrize("status", [200, 302, 400, 404, 416, 501, 505, 511])
def test_permanent_statuses(status: int) -> None:
    with pytest.raises(HubServerError):
        retry.Retry(RetryPolicy()).delay_after(HubServerError("x", status=status), 0.0, got=False)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507, 520, 524])
def test_transient_statuses(status: int) -> None:
    assert retry.Retry(RetryPolicy()).delay_after(HubServerError("x", status=status), 0.0, got=False) > 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RateLimitError("x"), "the Hub answered 429; waiting 12 s"),
        (HubServerError("x", status=503), "the Hub answered 503; waiting 12 s"),
        (NetworkError("no answer from http://hub: cut"), "no answer from http://hub: cut; waiting 12 s"),
    ],
)
def test_what_is_said_before_a_wait(error: errors.ManagerError, said: str) -> None:
    assert describe_wait(error, 12.3) == said
