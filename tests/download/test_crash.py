"""Processes that are killed, run concurrently, or fill the disk: each blob is downloaded once, completely."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpux import HuggingFaceManager, Settings
from gpux.download.hub_http import BATCH
from gpux.download.partial import read_journal
from gpux.download.ranges import Range, Ranges
from gpux.download.slots import CAP
from tests.download.processes import FILE, SMALL_RANGES, ClientDownload, Download, Pull
from tests.hub import Fault, HubServer, add_repo

pytestmark = pytest.mark.hub

BIG, MEDIUM = "crash/big", "crash/medium"
MB = 1_000_000
SIZES = {BIG: 48 * MB, MEDIUM: 24 * MB}
KILLS = 20


def write_content(path: Path, size: int) -> None:
    """Content without two equal blocks."""
    block = random.Random(size).randbytes(MB)
    with path.open("wb") as file:
        for number in range(size // MB):
            file.write(number.to_bytes(8, "big") + block[8:])


@pytest.fixture(scope="session")
def repositories(shared_folder: Callable[[str], Path]) -> Path:
    root = shared_folder(f"crash-{os.getpid()}")
    for name, size in SIZES.items():
        source = root / f"{size}.bin"
        write_content(source, size)
        add_repo(root, name, {FILE: source, "config.json": b"{}"})
    return root


def slow_down(hub: HubServer, rate: int) -> Fault:
    fault = Fault("throttle", listener="cdn", rate=rate, times=None)
    hub.add_fault(fault)
    return fault


def sent(hub: HubServer) -> int:
    return sum(request.bytes_sent for request in hub.requests if request.listener == "cdn")


def wait_until(condition: Callable[[], bool], process: Download) -> None:
    while not condition() and not process.ended:
        time.sleep(0.005)


def kill_after(hub: HubServer, count: int, process: Download) -> None:
    """Kill a download once the CDN has sent ``count`` bytes in total."""
    with process:
        wait_until(lambda: sent(hub) >= count, process)


def check_right(path: str | Path, model: str) -> None:
    """Check that the file in the snapshot equals the one on the Hub, and that no partial file is left."""
    path = Path(path)
    blob = path.resolve()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    assert blob.name == digest and blob.stat().st_size == SIZES[model]
    assert sorted(file.name for file in blob.parent.iterdir() if "gpux" in file.name) == []


def arrived(settings: Settings) -> Ranges:
    """The bytes that the next process does not request again: the ranges of the journal."""
    for journal in settings.hf_cache.rglob("*.gpux.journal"):
        etag = journal.name.partition(".")[0]
        return read_journal(journal, etag, SIZES[BIG]) or Ranges()
    return Ranges()


def requested(hub: HubServer) -> list[Range]:
    """The ranges of the CDN's successful responses since the last call."""
    headers = [r.headers["Range"] for r in hub.requests if r.listener == "cdn" and r.status == 206]
    hub.clear_requests()
    return [(int(first), int(last) + 1) for first, last in (h.removeprefix("bytes=").split("-") for h in headers)]


def test_twenty_kills_lose_next_to_nothing(hub: HubServer, settings: Settings) -> None:
    """A kill loses one batch for each connection at most, and bytes that arrived are never requested again."""
    slow_down(hub, 12 * MB)
    lost = CAP * (BATCH + 64 * 1024 + 2 * 4096)  # the last chunk of a batch; file system blocks at both ends
    before = Ranges()
    for instant in sorted(random.Random(20).sample(range(SIZES[BIG]), KILLS)):
        with Pull(BIG) as process:
            wait_until(lambda least=instant: on_disk(settings) >= least, process)  # type: ignore[misc]
        assert all(before.gaps(*part) == [part] for part in requested(hub))
        before = arrived(settings)
        assert on_disk(settings) - before.total <= lost
    with Pull(BIG) as process:
        check_right(process.path(), BIG)
    assert all(before.gaps(*part) == [part] for part in requested(hub))


def test_kills_at_any_instant_of_a_fast_pull(hub: HubServer, settings: Settings) -> None:
    """While opening, during the first ranges, the last hash, the rename: no wrong blob is ever visible."""
    moments = random.Random(7)
    for _ in range(8):
        with Pull(MEDIUM) as process:
            wait_until(lambda: bool(hub.requests), process)
            time.sleep(moments.uniform(0, 0.3))
        hub.clear_requests()
        for blob in settings.hf_cache.rglob("blobs/" + "?" * 64):
            assert blob.stat().st_size == SIZES[MEDIUM]
    with Pull(MEDIUM) as process:
        check_right(process.path(), MEDIUM)


def test_four_processes_fetch_each_blob_once(hub: HubServer, settings: Settings) -> None:
    slow_down(hub, 6 * MB)
    processes = [Pull(MEDIUM) for _ in range(4)]

    paths = {process.path() for process in processes}

    (path,) = paths
    check_right(path, MEDIUM)
    assert sent(hub) == SIZES[MEDIUM]


def test_other_processes_continue_when_the_one_with_the_lock_is_killed(hub: HubServer, settings: Settings) -> None:
    slow_down(hub, 5 * MB)
    with Pull(MEDIUM) as holder:
        wait_until(lambda: sent(hub) > 0, holder)
        others = [Pull(MEDIUM) for _ in range(3)]
        wait_until(lambda: sent(hub) > 8 * MB, holder)

    for process in others:
        check_right(process.path(), MEDIUM)
    assert sent(hub) <= SIZES[MEDIUM] + 5 * MB


def test_huggingface_hub_downloads_after_a_killed_parallel_pull(hub: HubServer, settings: Settings) -> None:
    throttle = slow_down(hub, 3 * MB)
    kill_after(hub, 8 * MB, Pull(MEDIUM))
    (partial,) = settings.hf_cache.rglob("*.gpux.incomplete")
    assert partial.stat().st_blocks * 512 < partial.stat().st_size, "the partial file has no gaps"
    assert hub.strikes(throttle)
    hub.clear_faults()

    with ClientDownload(MEDIUM) as process:
        path = Path(process.path())

    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == path.resolve().name


def test_a_pull_after_huggingface_hub_was_killed(hub: HubServer, settings: Settings) -> None:
    slow_down(hub, 20 * MB)
    kill_after(hub, 15 * MB, ClientDownload(MEDIUM))
    hub.clear_faults()

    with Pull(MEDIUM) as process:
        check_right(process.path(), MEDIUM)


@pytest.mark.parametrize(
    ("programs", "rate"),
    [((Pull, ClientDownload), 3 * MB), ((ClientDownload, Pull), 15 * MB)],  # several connections, and one
    ids=["gpux first", "client first"],
)
def test_huggingface_hub_at_the_same_time(
    hub: HubServer, settings: Settings, programs: tuple[type[Pull | ClientDownload], ...], rate: int
) -> None:
    slow_down(hub, rate)
    with programs[0](MEDIUM) as first:
        wait_until(lambda: sent(hub) > 5 * MB, first)
        with programs[1](MEDIUM) as second:
            for process in (first, second):
                check_right(process.path(), MEDIUM)
    assert sent(hub) == SIZES[MEDIUM]


def test_huggingface_hub_lists_a_cache_with_a_partial_file(hub: HubServer, settings: Settings) -> None:
    from huggingface_hub import scan_cache_dir

    slow_down(hub, 3 * MB)
    kill_after(hub, 10 * MB, Pull(MEDIUM))

    assert [str(warning) for warning in scan_cache_dir(settings.hf_cache).warnings] == []


LIMITED = (
    SMALL_RANGES
    + """
import json, resource, signal, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
from gpux import HuggingFaceManager, errors
manager = HuggingFaceManager()
info = manager.get_model_info(sys.argv[1])
try:
    manager.fetch(info, ["model.safetensors"])
except errors.GpuxError as exc:
    print(json.dumps(exc.to_dict()))
"""
)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit")
def test_a_full_disk_is_its_own_error_and_the_next_pull_resumes(hub: HubServer, settings: Settings) -> None:
    result = subprocess.run([sys.executable, "-c", LIMITED, MEDIUM, str(16 * MB)], capture_output=True, text=True)
    error = json.loads(result.stdout)
    first = sent(hub)

    assert error["code"] == "disk_full" and error["hint"], result.stderr
    (partial,) = settings.hf_cache.rglob("*.gpux.incomplete")
    kept = partial.stat().st_blocks * 512
    assert 6 * MB < kept <= 17 * MB
    snapshot = HuggingFaceManager(settings).fetch(HuggingFaceManager(settings).get_model_info(MEDIUM), [FILE])
    check_right(snapshot.path / FILE, MEDIUM)
    assert sent(hub) - first <= SIZES[MEDIUM] - 0.9 * kept


def test_a_resumed_file_with_wrong_bytes_is_downloaded_again_once(hub: HubServer, settings: Settings) -> None:
    slow_down(hub, 3 * MB)
    kill_after(hub, 10 * MB, Pull(MEDIUM))
    (partial,) = settings.hf_cache.rglob("*.gpux.incomplete")
    with partial.open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    hub.clear_faults()
    hub.clear_requests()

    with Pull(MEDIUM) as process:
        check_right(process.path(), MEDIUM)
    assert SIZES[MEDIUM] < sent(hub) < 2 * SIZES[MEDIUM]


LOUD = (
    SMALL_RANGES
    + """
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
from gpux import HuggingFaceManager
manager = HuggingFaceManager()
info = manager.get_model_info(sys.argv[1])
manager.fetch(info, [file.path for file in info.files])
"""
)


def test_no_token_in_any_output(hub: HubServer, settings: Settings) -> None:
    secret = "hf_good"
    for fault in (None, Fault("drop", path="resolve"), Fault("status", path="resolve", status=403, times=None)):
        if fault:
            hub.add_fault(fault)
        command = [sys.executable, "-c", LOUD, MEDIUM]
        done = subprocess.run(command, env={**os.environ, "HF_TOKEN": secret}, capture_output=True, text=True)
        assert "DEBUG" in done.stderr and secret not in done.stdout + done.stderr
        for folder in settings.hf_cache.rglob("blobs"):
            assert not any(secret in file.name for file in folder.iterdir())
        for file in settings.hf_cache.rglob(FILE):
            file.resolve().unlink()
    assert not any("Authorization" in request.headers for request in hub.requests if request.listener == "cdn")


def test_ctrl_c_ends_a_large_pull_at_once(hub: HubServer, settings: Settings) -> None:
    hub.add_fault(Fault("stall", listener="cdn", after=2 * MB, times=None))
    with Pull(MEDIUM, GPUX_TIMEOUT="3600") as process:
        wait_until(lambda: on_disk(settings) > MB, process)
        assert process.interrupt() not in (0, None)  # the server and the timeout last longer than the test
    kept = on_disk(settings)
    hub.clear_faults()
    hub.clear_requests()
    with Pull(MEDIUM) as process:
        check_right(process.path(), MEDIUM)
    assert sent(hub) <= SIZES[MEDIUM] - kept // 2


def on_disk(settings: Settings) -> int:
    """Bytes that partial files occupy, gaps not counted; a file may be completed while this counts."""
    occupied = 0
    for file in settings.hf_cache.rglob("*.gpux.incomplete"):
        with contextlib.suppress(FileNotFoundError):
            occupied += file.stat().st_blocks * 512
    return occupied
