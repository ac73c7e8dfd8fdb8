"""Every fault of the network and of the Hub, in one stream and in several: recovered from, or a typed error."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from gpux import HuggingFaceManager, Settings, errors
from gpux.download import retry, transfer
from gpux.download.retry import Retry, RetryPolicy
from gpux.model.info import SourceSnapshot
from gpux.system.cancel import CancelToken
from tests.hub import Fault, HubServer, add_repo
from tests.hub.wire import PATIENCE, when

pytestmark = pytest.mark.hub

BIG = "faulty/model"
SIZE = 6_000_000
CONTENT = random.Random(3).randbytes(SIZE)
PATIENT = RetryPolicy(deadline=PATIENCE, first=0.01, longest=0.05, spread=0.01)
FILE = "model.bin"


@pytest.fixture(scope="session")
def repositories(shared_folder: Callable[[str], Path]) -> Path:
    root = shared_folder(f"faulty-{os.getpid()}")  # one for each worker: a test moves the branch
    add_repo(root, BIG, {FILE: CONTENT}, renamed_from=["old/name"])
    add_repo(root, BIG, {FILE: b"another one" * 10_000}, label="next")
    return root


@pytest.fixture(params=["one stream", "several"], autouse=True)
def several(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(retry, "DEFAULT_POLICY", PATIENT)
    if request.param == "several":
        monkeypatch.setattr(transfer, "LARGE", 1_000_000)
        monkeypatch.setattr(transfer, "RANGE", 700_000)
    return bool(request.param == "several")


@pytest.fixture
def short_deadline(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """For faults that do not end."""
    monkeypatch.setattr(retry, "DEFAULT_POLICY", replace(PATIENT, deadline=0.5))


@pytest.fixture
def settings(hub: HubServer) -> Settings:
    return Settings.from_env(timeout=PATIENCE)


def impatient(settings: Settings, fault: Fault) -> HuggingFaceManager:
    """A manager that does not wait long for a server that is silent; for every other fault, one that does."""
    return HuggingFaceManager(settings, timeout=0.3 if is_silent(fault) else PATIENCE)


def is_silent(fault: Fault) -> bool:
    """True if a client notices the fault by its timeout alone."""
    return fault.kind in ("hang", "stall") or "Content-Length" in fault.headers


def fetch(manager: HuggingFaceManager, cancel: CancelToken | None = None) -> SourceSnapshot:
    return manager.fetch(manager.get_model_info(BIG), [FILE], cancel=cancel)


def check_whole(manager: HuggingFaceManager, snapshot: SourceSnapshot) -> None:
    assert (snapshot.path / FILE).read_bytes() == CONTENT
    assert left_over(manager) == []


def left_over(manager: HuggingFaceManager) -> list[str]:
    return [file.name for file in manager.settings.hf_cache.rglob("*.gpux.*")]


def cdn(kind: str, **fields: object) -> Fault:
    return Fault(kind, path=FILE, listener="cdn", **fields)  # type: ignore[arg-type]


RECOVERS = [
    cdn("flip", offset=3_000_000),
    cdn("close", after=250_000),
    cdn("close", after=250_000, times=5),
    cdn("reset", after=250_000),
    cdn("drop", times=3),
    cdn("hang"),
    cdn("stall", after=250_000),
    cdn("short_length", after=250_000),
    cdn("headers", headers={"Content-Length": str(2 * SIZE)}),
    cdn("headers", headers={"Content-Range": "bytes 17-29/30"}, times=None),
    cdn("headers", headers={"Content-Range": "bytes 17-29/30"}),
    cdn("headers", remove=("Content-Range",)),
    cdn("no_length"),
    cdn("gzip"),
    cdn("gzip", times=None),
    cdn("ignore_range"),
    cdn("ignore_range", times=None),
    cdn("status", status=416),
    cdn("status", status=403),
    cdn("status", status=503, times=6),
    cdn("status", status=408),
    cdn("status", status=429, headers={"Retry-After": "0"}),
    cdn("status", status=429, headers={"Retry-After": formatdate(time.time(), usegmt=True)}),
    Fault("status", path="resolve", status=429, headers={"RateLimit": '"resolvers";r=0;t=0'}),
    Fault("status", path="resolve", status=503, headers={"Retry-After": "0"}),
    Fault("drop", path="resolve"),
]


@pytest.mark.parametrize(
    "fault", RECOVERS, ids=lambda f: f"{f.kind}-{f.status}-{f.times}-{len(f.headers)}-{f.listener}"
)
def test_recovers(hub: HubServer, settings: Settings, fault: Fault, several: bool) -> None:
    manager = impatient(settings, fault)
    hub.add_fault(fault)

    snapshot = fetch(manager)

    check_whole(manager, snapshot)
    assert hub.strikes(fault) or (fault.kind == "ignore_range" and not several)
    assert snapshot.report and snapshot.report.verified == 1


FAILS = [
    (cdn("flip", offset=100_000), errors.CorruptFileError),
    (cdn("status", status=416), errors.CorruptFileError),
    (cdn("status", status=503), errors.HubServerError),
    (cdn("status", status=403), errors.AccessError),
    (cdn("status", status=429, headers={"Retry-After": "0"}), errors.RateLimitError),
    (cdn("status", status=429, headers={"RateLimit": '"x";r=0;t=300'}), errors.RateLimitError),
    (cdn("drop"), errors.NetworkError),
    (cdn("reset"), errors.NetworkError),
    (cdn("hang"), errors.NetworkError),
    (cdn("stall"), errors.NetworkError),
    (Fault("status", path="resolve", status=500), errors.HubServerError),
    (Fault("status", path="resolve", status=400), errors.HubServerError),
    (Fault("status", path="resolve", status=302, headers={"Location": "/faulty/resolve"}), errors.HubServerError),
    (Fault("status", path="resolve", status=302, headers={"Location": "http://[bad"}), errors.HubServerError),
    (Fault("status", path="resolve", status=302, headers={"Location": "ftp://host/f"}), errors.NetworkError),
    (Fault("status", path="resolve", status=302), errors.HubServerError),
]


@pytest.mark.parametrize(
    ("fault", "kind"),
    FAILS,
    ids=lambda value: getattr(value, "kind", value.__name__ if isinstance(value, type) else ""),
)
def test_raises_its_own_error_and_resumes_later(
    hub: HubServer, settings: Settings, fault: Fault, kind: type[errors.GpuxError], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = impatient(settings, fault)
    hub.add_fault(replace(fault, times=None))

    # A count of attempts ends these two, which a busy machine may not reach within a short deadline.
    counted = kind in (errors.CorruptFileError, errors.AccessError)
    policy = PATIENT if counted else replace(PATIENT, deadline=0.7 if is_silent(fault) else 0.2)
    with monkeypatch.context() as patch, pytest.raises(kind) as caught:
        patch.setattr(retry, "DEFAULT_POLICY", policy)
        fetch(manager)

    assert type(caught.value) is kind and caught.value.hint
    hub.clear_faults()
    check_whole(manager, fetch(manager))


def test_the_hint_of_an_anonymous_rate_limit_names_the_login(hub: HubServer, settings: Settings) -> None:
    hub.add_fault(Fault("status", path="resolve", status=429, headers={"Retry-After": "300"}, times=None))
    for token, hinted in ((None, True), ("hf_good", False)):
        with pytest.raises(errors.RateLimitError) as caught:
            fetch(HuggingFaceManager(settings, token=token))
        assert ("gpux auth login" in str(caught.value.hint)) is hinted
        assert caught.value.details["retry_after"] == 300


@pytest.mark.usefixtures("short_deadline")
def test_no_ranges_and_every_response_cut_is_an_error(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.add_fault(cdn("close", after=2_000_000))
    hub.add_fault(cdn("headers", headers={"Content-Range": "bytes 17-29/30"}, times=3))
    hub.add_fault(cdn("close", after=2_000_000, times=None))

    with pytest.raises(errors.NetworkError):
        fetch(manager)


def test_more_bytes_than_the_file_has(hub: HubServer, manager: HuggingFaceManager) -> None:
    longer = CONTENT + bytes(1_000_000)
    hub.add_fault(cdn("status", status=200, body=longer, times=None))

    check_whole(manager, fetch(manager))


def test_signed_urls_that_are_valid_once(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.options.cdn_once = True
    cuts = cdn("close", after=400_000, times=5)
    hub.add_fault(cuts)

    check_whole(manager, fetch(manager))
    assert hub.strikes(cuts) == 5
    assert 403 in {request.status for request in hub.requests}


def test_a_signed_url_that_expires_during_the_download(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.add_fault(cdn("close", after=300_000, on_strike=hub.expire_cdn_urls))

    check_whole(manager, fetch(manager))
    assert 403 in {request.status for request in hub.requests}


def test_a_branch_that_moves_during_the_pull(hub: HubServer, manager: HuggingFaceManager) -> None:
    info = manager.get_model_info(BIG)
    hub.move_branch(BIG, "main", "next")
    try:
        check_whole(manager, manager.fetch(info, [FILE]))
    finally:
        hub.move_branch(BIG, "main", "main")


def test_a_repository_that_was_renamed(hub: HubServer, manager: HuggingFaceManager) -> None:
    info = replace(manager.get_model_info(BIG), id="old/name")

    check_whole(manager, manager.fetch(info, [FILE]))


def test_a_file_of_unknown_size(manager: HuggingFaceManager) -> None:
    info = manager.get_model_info(BIG)
    (file,) = (file for file in info.files if file.path == FILE)

    check_whole(manager, manager.fetch(replace(info, files=(replace(file, size=None),)), [FILE]))


def test_a_server_that_comes_back(hub: HubServer, manager: HuggingFaceManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is started again as soon as the first request has failed."""
    info = manager.get_model_info(BIG)
    hub.stop()
    failed = threading.Event()
    delay_after = Retry.delay_after

    def noted(self: Retry, *args: Any, **keywords: Any) -> float:
        failed.set()
        return delay_after(self, *args, **keywords)

    monkeypatch.setattr(Retry, "delay_after", noted)
    with when(failed.is_set, hub.start):
        check_whole(manager, manager.fetch(info, [FILE]))


def on_disk(manager: HuggingFaceManager) -> int:
    """Bytes that partial files occupy, gaps not counted."""
    files = list(manager.settings.hf_cache.rglob("*.gpux.incomplete"))
    return sum(min(file.stat().st_size, file.stat().st_blocks * 512) for file in files)


def test_cancel_in_the_middle(hub: HubServer, manager: HuggingFaceManager, several: bool) -> None:
    hub.add_fault(Fault("throttle", listener="cdn", rate=1_000_000, times=None))
    cancel = CancelToken()
    with when(lambda: on_disk(manager) > 500_000, cancel.cancel), pytest.raises(errors.CancelledError):
        fetch(manager, cancel)
    hub.clear_faults()
    kept = on_disk(manager)
    hub.clear_requests()

    snapshot = fetch(manager)

    check_whole(manager, snapshot)
    assert kept > 500_000
    rounded = 8 * 2 * 4096 if several else 0  # file system blocks at both ends of each range
    assert snapshot.report and snapshot.report.received <= SIZE - kept + rounded


def test_no_token_leaves_the_origin(hub: HubServer, settings: Settings) -> None:
    check_whole(manager := HuggingFaceManager(settings, token="hf_good"), fetch(manager))

    assert all("Authorization" in request.headers for request in hub.requests if request.listener == "origin")
    assert not any("Authorization" in request.headers for request in hub.requests if request.listener == "cdn")


def test_the_report_counts(hub: HubServer, manager: HuggingFaceManager, several: bool) -> None:
    hub.add_fault(cdn("close", after=100_000))
    first = fetch(manager).report
    sent = [request for request in hub.requests if "/api/" not in request.path]
    second = fetch(manager).report

    assert first and second
    assert (first.received, first.retries, first.cache_hits, first.verified) == (SIZE, 1, 0, 1)
    assert first.requests == len(sent) and (first.requests > 5) is several
    assert (second.received, second.requests, second.cache_hits, second.verified) == (0, 0, 1, 1)
    assert first.to_dict()["files"][0]["path"] == FILE and first.to_dict()["received"] == SIZE
