"""Downloads into the shared cache: complete, verified, resumed, and readable by every version of huggingface_hub."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpux import HuggingFaceManager, Settings, errors
from gpux.download import retry
from gpux.download.retry import RetryPolicy
from gpux.system.cancel import CancelToken
from gpux.system.progress import BytesAdvanced, Event
from tests.hub import Fault, HubServer, add_repo
from tests.hub.wire import PATIENCE, wait_for, when

pytestmark = pytest.mark.hub

BIG = "big/model"
SIZE = 6_000_000


@pytest.fixture(scope="session")
def repositories(shared_folder: Callable[[str], Path]) -> Path:
    root = shared_folder(f"big-{os.getpid()}")
    content = b"".join(index.to_bytes(4, "big") for index in range(SIZE // 4))
    add_repo(root, BIG, {"model.bin": content, "config.json": b"{}", "sp ace/f#1.txt": b"odd name"})
    return root


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "DEFAULT_POLICY", RetryPolicy(deadline=PATIENCE, first=0.01, longest=0.05))


def fetch(manager: HuggingFaceManager, *paths: str, cancel: CancelToken | None = None) -> bytes:
    snapshot = manager.fetch(manager.get_model_info(BIG), paths or ("model.bin",), cancel=cancel)
    return (snapshot.path / snapshot.files[0]).read_bytes()


def partials(settings: Settings, size: int) -> list[Path]:
    """The partial files that are larger than ``size``."""
    return [path for path in settings.hf_cache.rglob("*.gpux.incomplete") if path.stat().st_size > size]


def bytes_sent(hub: HubServer) -> int:
    return sum(request.bytes_sent for request in hub.requests if request.listener == "cdn")


def test_fetch_reports_progress_and_leaves_no_partial(manager: HuggingFaceManager) -> None:
    events: list[Event] = []
    info = manager.get_model_info(BIG)

    snapshot = manager.fetch(info, ["model.bin", "config.json", "sp ace/f#1.txt"], progress=events.append)

    assert (snapshot.path / "sp ace/f#1.txt").read_bytes() == b"odd name"
    last = events[-1]
    assert isinstance(last, BytesAdvanced)
    assert last.done == last.total == SIZE + 2 + len(b"odd name")
    assert not list(manager.settings.hf_cache.rglob("*.incomplete"))


def test_huggingface_hub_finds_downloaded_files(hub: HubServer, manager: HuggingFaceManager) -> None:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    fetch(manager)
    cache = manager.settings.hf_cache
    hub.clear_requests()

    found = try_to_load_from_cache(BIG, "model.bin", cache_dir=cache, revision="main")
    downloaded = hf_hub_download(BIG, "model.bin", cache_dir=cache, endpoint=hub.url, local_files_only=True)

    assert found == downloaded and Path(downloaded).stat().st_size == SIZE
    assert hub.requests == []


def test_files_downloaded_by_huggingface_hub_are_used(hub: HubServer, manager: HuggingFaceManager) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(BIG, "model.bin", cache_dir=manager.settings.hf_cache, endpoint=hub.url)
    hub.clear_requests()

    fetch(manager)

    assert bytes_sent(hub) == 0


def test_a_blob_damaged_on_disk_is_downloaded_again(hub: HubServer, manager: HuggingFaceManager) -> None:
    original = fetch(manager)
    (blob,) = manager.settings.hf_cache.rglob("blobs/*" + manager.get_model_info(BIG).file("model.bin").etag[:8] + "*")  # type: ignore[index,union-attr]
    with blob.open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")

    assert fetch(manager) == original


@pytest.mark.parametrize(
    "fault",
    [
        Fault("close", path="model.bin", after=2_500_000),
        Fault("reset", path="model.bin", after=2_500_000),
        Fault("short_length", path="model.bin", after=2_500_000),
        Fault("status", path="model.bin", status=503, listener="cdn"),
        Fault("drop", path="model.bin", listener="cdn"),
        Fault("status", path="model.bin", status=429, headers={"Retry-After": "0"}, listener="cdn"),
        Fault("no_length", path="model.bin"),
        Fault("gzip", path="model.bin"),
        Fault("flip", path="model.bin", offset=3_000_000),
    ],
    ids=lambda fault: fault.kind,
)
def test_faults_that_are_recovered_from(hub: HubServer, manager: HuggingFaceManager, fault: Fault) -> None:
    hub.add_fault(fault)

    assert len(fetch(manager)) == SIZE
    assert hub.strikes(fault) == 1


def test_a_cut_download_resumes_where_it_stopped(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.add_fault(Fault("close", path="model.bin", after=4_000_000))

    fetch(manager)

    assert bytes_sent(hub) <= SIZE + 100_000


def test_a_server_without_ranges_sends_the_whole_file_again(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.add_fault(Fault("close", path="model.bin", after=4_000_000))
    hub.add_fault(Fault("ignore_range", path="model.bin"))

    assert len(fetch(manager)) == SIZE


def test_repeated_damage_is_an_error_that_names_both_hashes(hub: HubServer, manager: HuggingFaceManager) -> None:
    hub.add_fault(Fault("flip", path="model.bin", offset=10, times=None))

    with pytest.raises(errors.CorruptFileError) as caught:
        fetch(manager)

    assert caught.value.details["expected"] != caught.value.details["actual"]
    assert not list(manager.settings.hf_cache.rglob("blobs/*incomplete"))


def test_a_wrong_prefix_is_detected(hub: HubServer, manager: HuggingFaceManager) -> None:
    etag = manager.get_model_info(BIG).file("model.bin").etag  # type: ignore[union-attr]
    partial = manager.settings.hf_cache / "models--big--model" / "blobs" / f"{etag}.gpux.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"junk" * 250_000)

    assert fetch(manager)[:8] == bytes([0, 0, 0, 0, 0, 0, 0, 1])


def test_no_token_reaches_the_cdn(hub: HubServer, settings: Settings) -> None:
    fetch(HuggingFaceManager(settings, token="hf_good"))

    by_listener = {request.listener: request for request in hub.requests}
    assert "Authorization" in by_listener["origin"].headers
    assert all("Authorization" not in r.headers for r in hub.requests if r.listener == "cdn")


def test_cancel_keeps_what_arrived(hub: HubServer, settings: Settings) -> None:
    hub.add_fault(Fault("stall", path="model.bin", after=3_000_000, seconds=PATIENCE))
    cancel = CancelToken()
    manager = HuggingFaceManager(settings, timeout=PATIENCE)

    with when(lambda: partials(settings, 2_000_000), cancel.cancel), pytest.raises(errors.CancelledError):
        fetch(manager, cancel=cancel)
    (partial,) = manager.settings.hf_cache.rglob("*.gpux.incomplete")
    assert partial.stat().st_size > 2_000_000
    hub.clear_requests()
    hub.clear_faults()
    fetch(manager)

    assert bytes_sent(hub) < SIZE - 2_000_000


def test_a_killed_process_keeps_what_arrived(hub: HubServer, settings: Settings, home: Path) -> None:
    hub.add_fault(Fault("stall", path="model.bin", after=4_000_000, seconds=PATIENCE))
    program = f"from gpux import HuggingFaceManager as H; m = H(); m.fetch(m.get_model_info({BIG!r}), ['model.bin'])"
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "GPUX_TIMEOUT": str(2 * PATIENCE)})
    wait_for(lambda: partials(settings, 3_000_000))
    process.send_signal(signal.SIGKILL)
    process.wait()
    hub.clear_faults()
    hub.clear_requests()

    assert len(fetch(HuggingFaceManager(settings))) == SIZE
    assert bytes_sent(hub) < SIZE - 2_500_000


def test_a_missing_file_is_an_error(manager: HuggingFaceManager) -> None:
    with pytest.raises(errors.EntryNotFoundError, match=r"nope\.json"):
        fetch(manager, "nope.json")


def test_a_cache_that_cannot_be_written(manager: HuggingFaceManager) -> None:
    manager.settings.hf_cache.parent.mkdir(parents=True)
    manager.settings.hf_cache.write_text("a file stands where the cache should")

    with pytest.raises(errors.NotWritableError):
        fetch(manager)


def test_the_server_goes_away(hub: HubServer, manager: HuggingFaceManager, monkeypatch: pytest.MonkeyPatch) -> None:
    info = manager.get_model_info(BIG)
    monkeypatch.setattr(retry, "DEFAULT_POLICY", RetryPolicy(deadline=0.5, first=0.01, longest=0.05))
    hub.stop()
    try:
        with pytest.raises(errors.NetworkError):
            manager.fetch(info, ["model.bin"])
    finally:
        hub.start()
