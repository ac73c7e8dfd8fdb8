"""Processes that are killed, run concurrently, or fill the disk: each blob is downloaded once, completely."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpux import HuggingFaceManager, Settings
from gpux.download.hub_http import BATCH
from gpux.download.partial import read_journal
from gpux.download.ranges import Range, Ranges
from gpux.download.slots import CAP
from tests.hub import Fault, HubServer, add_repo

pytestmark = pytest.mark.hub

BIG, MEDIUM = "crash/big", "crash/medium"
FILE = "model.safetensors"
MB = 1_000_000
SIZES = {BIG: 100 * MB, MEDIUM: 60 * MB}
KILLS = 20

PULL = """
import sys
from gpux import HuggingFaceManager
manager = HuggingFaceManager()
info = manager.get_model_info(sys.argv[1])
snapshot = manager.fetch(info, [file.path for file in info.files])
print(snapshot.path / "model.safetensors")
"""
CLIENT = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1]) + "/model.safetensors")
"""


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


def start(program: str, model: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, model],
        env={**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def running(program: str, model: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    with start(program, model, **env) as process:
        try:
            yield process
        finally:
            process.kill()


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate()
    assert process.returncode == 0, err[-2000:]
    return out.strip().splitlines()[-1]


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition() and process.poll() is None:
        time.sleep(0.005)


def kill_after(hub: HubServer, count: int, program: str, model: str) -> None:
    """Start a pull, and kill it once the CDN has sent ``count`` bytes in total."""
    with running(program, model) as process:
        wait_until(lambda: sent(hub) >= count, process)
        process.send_signal(signal.SIGKILL)


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
    slow_down(hub, 5 * MB)
    lost = CAP * (BATCH + 64 * 1024 + 2 * 4096)  # the last chunk of a batch; file system blocks at both ends
    before = Ranges()
    for instant in sorted(random.Random(20).sample(range(SIZES[BIG]), KILLS)):
        with running(PULL, BIG) as process:
            wait_until(lambda least=instant: on_disk(settings) >= least, process)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
        assert all(before.gaps(*part) == [part] for part in requested(hub))
        before = arrived(settings)
        assert on_disk(settings) - before.total <= lost
    with running(PULL, BIG) as process:
        check_right(finished(process), BIG)
    assert all(before.gaps(*part) == [part] for part in requested(hub))


def test_kills_at_any_instant_of_a_fast_pull(hub: HubServer, settings: Settings) -> None:
    """While opening, during the first ranges, the last hash, the rename: no wrong blob is ever visible."""
    moments = random.Random(7)
    for _ in range(8):
        with running(PULL, MEDIUM) as process:
            wait_until(lambda: bool(hub.requests), process)
            time.sleep(moments.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
        hub.clear_requests()
        for blob in settings.hf_cache.rglob("blobs/" + "?" * 64):
            assert blob.stat().st_size == SIZES[MEDIUM]
    with running(PULL, MEDIUM) as process:
        check_right(finished(process), MEDIUM)


def test_four_processes_fetch_each_blob_once(hub: HubServer, settings: Settings) -> None:
    slow_down(hub, 20 * MB)
    processes = [start(PULL, MEDIUM) for _ in range(4)]

    paths = {finished(process) for process in processes}

    (path,) = paths
    check_right(path, MEDIUM)
    assert sent(hub) == SIZES[MEDIUM]


def test_other_processes_continue_when_the_one_with_the_lock_is_killed(hub: HubServer, settings: Settings) -> None:
    slow_down(hub, 8 * MB)
    with running(PULL, MEDIUM) as holder:
        wait_until(lambda: sent(hub) > 0, holder)
        others = [start(PULL, MEDIUM) for _ in range(3)]
        wait_until(lambda: sent(hub) > 20 * MB, holder)
        holder.send_signal(signal.SIGKILL)

    for process in others:
        check_right(finished(process), MEDIUM)
    assert sent(hub) <= 1.1 * SIZES[MEDIUM]


def test_huggingface_hub_downloads_after_a_killed_parallel_pull(hub: HubServer, settings: Settings) -> None:
    throttle = slow_down(hub, 10 * MB)
    kill_after(hub, 20 * MB, PULL, MEDIUM)
    (partial,) = settings.hf_cache.rglob("*.gpux.incomplete")
    assert partial.stat().st_blocks * 512 < partial.stat().st_size, "the partial file has no gaps"
    assert hub.strikes(throttle)
    hub.clear_faults()

    with running(CLIENT, MEDIUM) as process:
        path = Path(finished(process))

    with path.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == path.resolve().name


def test_a_pull_after_huggingface_hub_was_killed(hub: HubServer, settings: Settings) -> None:
    slow_down(hub, 20 * MB)
    kill_after(hub, 25 * MB, CLIENT, MEDIUM)
    hub.clear_faults()

    with running(PULL, MEDIUM) as process:
        check_right(finished(process), MEDIUM)


@pytest.mark.parametrize("programs", [(PULL, CLIENT), (CLIENT, PULL)], ids=["gpux first", "client first"])
def test_huggingface_hub_at_the_same_time(hub: HubServer, settings: Settings, programs: tuple[str, str]) -> None:
    slow_down(hub, 15 * MB)
    with running(programs[0], MEDIUM) as first:
        wait_until(lambda: sent(hub) > 5 * MB, first)
        with running(programs[1], MEDIUM) as second:
            for process in (first, second):
                check_right(finished(process), MEDIUM)
    assert sent(hub) == SIZES[MEDIUM]


def test_huggingface_hub_lists_a_cache_with_a_partial_file(hub: HubServer, settings: Settings) -> None:
    from huggingface_hub import scan_cache_dir

    slow_down(hub, 10 * MB)
    kill_after(hub, 25 * MB, PULL, MEDIUM)

    assert [str(warning) for warning in scan_cache_dir(settings.hf_cache).warnings] == []


LIMITED = """
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


@pytest.mark.skipif(sys.platform == "win32", reason="needs a file size limit")
def test_a_full_disk_is_its_own_error_and_the_next_pull_resumes(hub: HubServer, settings: Settings) -> None:
    result = subprocess.run([sys.executable, "-c", LIMITED, MEDIUM, str(40 * MB)], capture_output=True, text=True)
    error = json.loads(result.stdout)
    first = sent(hub)

    assert error["code"] == "disk_full" and error["hint"], result.stderr
    (partial,) = settings.hf_cache.rglob("*.gpux.incomplete")
    kept = partial.stat().st_blocks * 512
    assert 10 * MB < kept <= 41 * MB
    snapshot = HuggingFaceManager(settings).fetch(HuggingFaceManager(settings).get_model_info(MEDIUM), [FILE])
    check_right(snapshot.path / FILE, MEDIUM)
    assert sent(hub) - first <= SIZES[MEDIUM] - 0.9 * kept


def test_a_resumed_file_with_wrong_bytes_is_downloaded_again_once(hub: HubServer, settings: Settings) -> None:
    slow_down(hub, 10 * MB)
    kill_after(hub, 25 * MB, PULL, MEDIUM)
    (partial,) = settings.hf_cache.rglob("*.gpux.incomplete")
    with partial.open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    hub.clear_faults()
    hub.clear_requests()

    with running(PULL, MEDIUM) as process:
        check_right(finished(process), MEDIUM)
    assert SIZES[MEDIUM] < sent(hub) < 2 * SIZES[MEDIUM]


LOUD = (
    """
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
"""
    + PULL
)


def test_no_token_in_any_output(hub: HubServer, settings: Settings) -> None:
    secret = "hf_good"
    for fault in (None, Fault("drop", path="resolve"), Fault("status", path="resolve", status=403, times=None)):
        if fault:
            hub.add_fault(fault)
        with start(LOUD, MEDIUM, HF_TOKEN=secret) as process:
            out, err = process.communicate()
        assert "DEBUG" in err and secret not in out + err
        for folder in settings.hf_cache.rglob("blobs"):
            assert not any(secret in file.name for file in folder.iterdir())
        for file in settings.hf_cache.rglob(FILE):
            file.resolve().unlink()
    assert not any("Authorization" in request.headers for request in hub.requests if request.listener == "cdn")


def test_ctrl_c_ends_a_large_pull_at_once(hub: HubServer, settings: Settings) -> None:
    hub.add_fault(Fault("stall", listener="cdn", after=2 * MB, times=None))
    with running(PULL, MEDIUM, GPUX_TIMEOUT="3600") as process:
        wait_until(lambda: on_disk(settings) > MB, process)
        process.send_signal(signal.SIGINT)
        process.communicate()  # the server and the timeout last longer than the test
    assert process.returncode not in (0, None)
    kept = on_disk(settings)
    hub.clear_faults()
    hub.clear_requests()
    with running(PULL, MEDIUM) as process:
        check_right(finished(process), MEDIUM)
    assert sent(hub) <= SIZES[MEDIUM] - kept // 2


def on_disk(settings: Settings) -> int:
    """Bytes that partial files occupy, gaps not counted; a file may be completed while this counts."""
    occupied = 0
    for file in settings.hf_cache.rglob("*.gpux.incomplete"):
        with contextlib.suppress(FileNotFoundError):
            occupied += file.stat().st_blocks * 512
    return occupied
