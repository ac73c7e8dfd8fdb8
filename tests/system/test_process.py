"""Child processes: every event arrives, and no process is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gpux.errors import CancelledError, NotWritableError, OutOfMemoryError, ToolchainError
from gpux.system import process as process_module
from gpux.system import resident, worker_protocol
from gpux.system.cancel import CancelToken
from gpux.system.process import Exit, converse, run_logged, tail
from tests.waiting import wait_until

FAKE = Path(__file__).parent / "fake_worker.py"
Events = list[Mapping[str, Any]]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "worker.log"


def talk(behaviour: str, log: Path, events: Events, **options: Any) -> Exit:
    options = {"cancel": CancelToken(), "on_event": events.append, "grace": 0.3, **options}
    request = {"behaviour": behaviour, "protocol": worker_protocol.__file__}
    return converse([sys.executable, "-I", FAKE], request, log=log, **options)


def wait_until_gone(pid: int) -> None:
    wait_until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"  # a zombie whose parent, the init process of a container, does not reap


def pids(events: Events) -> list[int]:
    return [event["pid"] for event in events if "pid" in event]


def test_the_request_arrives_and_events_come_back(log: Path) -> None:
    events: Events = []
    end = talk("echo", log, events)
    assert (end, end.signal) == (Exit(0), None)
    assert [event["event"] for event in events] == ["started", "result"]
    assert events[1]["request"]["behaviour"] == "echo"


def test_the_worker_gets_no_token(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    events: Events = []
    talk("echo", log, events)
    assert "hf_secret" not in json.dumps(events)


def test_output_that_is_not_an_event_goes_to_the_log(log: Path) -> None:
    events: Events = []
    talk("noise", log, events)
    assert [event["event"] for event in events] == ["started", "result"]
    written = log.read_bytes()
    for text in (b"not json", b"[1, 2]", b'"text"', b"{}", b"\xff\xfe binary", b"on stderr"):
        assert text in written


@pytest.mark.parametrize(
    ("behaviour", "text"), [("last_words", "ended with exit status 3"), ("killed", "killed by SIGKILL")]
)
def test_the_end_of_a_worker_is_described(log: Path, behaviour: str, text: str) -> None:
    assert text in str(talk(behaviour, log, []))


@pytest.mark.parametrize(("behaviour", "processes"), [("hang", 1), ("deaf", 2), ("watches_parent", 2)])
def test_a_cancelled_worker_is_gone_with_its_children(log: Path, behaviour: str, processes: int) -> None:
    events: Events = []
    token = CancelToken()

    def on_event(event: Mapping[str, Any]) -> None:
        events.append(event)
        if len(pids(events)) == processes:  # all of them run
            token.cancel()

    with pytest.raises(CancelledError):
        talk(behaviour, log, events, cancel=token, on_event=on_event)
    assert len(pids(events)) == processes
    for pid in pids(events):
        wait_until_gone(pid)


def test_a_worker_that_closed_its_output_can_be_cancelled(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: Events = []
    token = CancelToken()
    await_end = process_module._await_end

    def cancelled_while_waiting(process: subprocess.Popen[bytes], cancel: CancelToken) -> None:
        token.cancel()
        await_end(process, cancel)

    monkeypatch.setattr(process_module, "_await_end", cancelled_while_waiting)
    with pytest.raises(CancelledError):
        talk("closed", log, events, cancel=token)
    (pid,) = pids(events)
    wait_until_gone(pid)


def test_a_token_that_is_already_set_ends_the_worker_at_once(log: Path) -> None:
    token = CancelToken()
    token.cancel()
    events: Events = []
    with pytest.raises(CancelledError):
        talk("hang", log, events, cancel=token)
    assert events == []


def test_children_that_outlive_the_worker_are_ended(log: Path) -> None:
    events: Events = []
    assert talk("orphans", log, events) == Exit(0)
    assert len(pids(events)) == 2
    for pid in pids(events):
        wait_until_gone(pid)


def test_an_error_in_on_event_ends_the_worker(log: Path) -> None:
    seen: Events = []

    def listener(event: Mapping[str, Any]) -> None:
        seen.append(event)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        talk("hang", log, [], on_event=listener)
    wait_until_gone(seen[0]["pid"])


linux = pytest.mark.skipif(sys.platform != "linux", reason="tells its own memory from that of files")


def order(log: Path, request: dict[str, Any], **options: Any) -> tuple[Exit, Events]:
    """A fake worker with the behaviour in its request."""
    events: Events = []
    end = converse(
        [sys.executable, "-I", FAKE], request, log=log, on_event=events.append, cancel=CancelToken(), **options
    )
    return end, events


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Returns a file that is created after so many bytes in RAM were measured; a worker ends when it exists."""

    def watch(size: int) -> Path:
        file, measured = tmp_path / "seen", []
        group_usage = resident.group_usage

        def noted(group: int) -> resident.Usage | None:
            if any(usage is not None and usage.resident > size for usage in measured):
                file.touch()  # that measurement is recorded: this is a later one
            measured.append(group_usage(group))
            return measured[-1]

        monkeypatch.setattr(resident, "group_usage", noted)
        return file

    return watch


def test_the_peak_memory_is_reported(log: Path, seen: Callable[[int], Path]) -> None:
    end, events = order(log, {"behaviour": "eat", "bytes": 100_000_000, "until": str(seen(100_000_000))})
    assert events[-1]["event"] == "result"
    assert end.peak_rss is not None and 100_000_000 < end.peak_rss < 300_000_000


@linux
@pytest.mark.parametrize("child", [False, True])
def test_a_worker_beyond_its_memory_limit_is_killed(log: Path, child: bool) -> None:
    events: Events = []
    request = {"behaviour": "eat", "bytes": 400_000_000, "child": child}
    command = [sys.executable, "-I", FAKE]
    with pytest.raises(OutOfMemoryError, match=r"the limit was 200\.0 MB") as caught:
        converse(
            command, request, log=log, on_event=events.append, cancel=CancelToken(), grace=0.3, memory_limit=200_000_000
        )
    assert caught.value.log == log
    assert caught.value.details["peak"] > caught.value.details["limit"] == 200_000_000
    assert str(log) in (caught.value.hint or "")
    for pid in pids(events):
        wait_until_gone(pid)


@linux
def test_mapped_files_do_not_count(log: Path, tmp_path: Path, seen: Callable[[int], Path]) -> None:
    file = tmp_path / "weights"
    file.write_bytes(bytes(200_000_000))
    request = {"behaviour": "map_file", "file": str(file), "until": str(seen(200_000_000))}
    end, events = order(log, request, memory_limit=100_000_000)
    assert events[-1]["event"] == "result"
    assert (end.peak_rss or 0) > 200_000_000


@linux
def test_a_worker_is_killed_when_the_machine_runs_out_of_memory(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpux.system.machine.available_memory", lambda: 1_000_000)
    with pytest.raises(OutOfMemoryError, match="were still available") as caught:
        order(log, {"behaviour": "eat", "bytes": 500_000_000}, memory_limit=10**12)
    assert caught.value.details["available"] == 1_000_000


PARENT = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.system.test_process import talk
talk({behaviour!r}, Path({log!r}), [], on_event=lambda event: print(event.get("pid"), flush=True))
"""


@pytest.fixture
def parent(log: Path) -> Callable[[str], tuple[subprocess.Popen[str], list[int]]]:
    """Start a process that starts a worker; returns the ids of the worker and of its child too."""

    def start(behaviour: str) -> tuple[subprocess.Popen[str], list[int]]:
        root = str(Path(__file__).parents[2])
        code = PARENT.format(root=root, behaviour=behaviour, log=str(log))
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        return process, [int(process.stdout.readline()) for _ in range(2)]

    return start


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_worker_dies_with_its_parent(
    parent: Callable[[str], tuple[subprocess.Popen[str], list[int]]], number: signal.Signals
) -> None:
    process, found = parent("watches_parent")
    assert all(alive(pid) for pid in found)
    process.send_signal(number)
    process.communicate()
    for pid in found:
        wait_until_gone(pid)


def test_ctrl_c_ends_the_worker(parent: Callable[[str], tuple[subprocess.Popen[str], list[int]]]) -> None:
    process, found = parent("deaf")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert "KeyboardInterrupt" in errors
    for pid in found:
        wait_until_gone(pid)


def test_a_program_that_does_not_exist(log: Path) -> None:
    with pytest.raises(ToolchainError, match="cannot be started"):
        converse(["/nowhere/python"], {}, log=log, on_event=lambda event: None, cancel=CancelToken())


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(NotWritableError):
        talk("echo", tmp_path / "log", [])


def test_run_logged_passes_lines_on(log: Path) -> None:
    lines: list[str] = []
    code = "import sys; print('one'); sys.stdout.flush(); print('two', file=sys.stderr); sys.exit(4)"
    end = run_logged([sys.executable, "-c", code], log=log, cancel=CancelToken(), on_line=lines.append)
    assert (end.code, lines, tail(log)) == (4, ["one", "two"], "one\ntwo")


def test_tail_skips_blank_lines(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("\n".join(f"line {i}\n\n" for i in range(100)))
    assert tail(file, 2) == "line 98\nline 99"
    assert tail(tmp_path / "none") == ""
