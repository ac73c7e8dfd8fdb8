"""Jobs as real processes, on the loopback Hub."""

from __future__ import annotations

import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gpux import CancelToken, Settings, Store, errors, jobs
from gpux.jobs import Job
from gpux.jobs.process import is_alive
from gpux.pull.api import pull_model
from gpux.system.progress import BytesAdvanced, Event, StageFinished, StageStarted
from tests.hub import Fault, HubServer
from tests.jobs.conftest import Start
from tests.waiting import FOREVER, wait_until

pytestmark = pytest.mark.hub

REPOSITORY = Path(__file__).parents[2]


def followed(job: Job) -> tuple[Job, list[Event]]:
    events: list[Event] = []
    return jobs.follow(job, events.append), events


def kill(job: Job) -> None:
    os.killpg(job.process.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(job.process))


# From start to end


def test_a_job_pulls_the_model_and_a_late_follower_sees_the_same_stages(start: Start, settings: Settings) -> None:
    job = start("tiny/embed")
    assert (job.models, job.arguments) == (("tiny/embed",), ("pull", "tiny/embed"))

    ended, events = followed(job)

    assert (ended.status, ended.exit_code, ended.error) == ("finished", 0, None)
    assert ended.ended is not None
    stored = Store(settings.store).find("hf", "tiny/embed", ended.result()["commit"])
    assert stored is not None and stored.to_dict().items() <= ended.result().items()
    stages = [event.stage for event in events if isinstance(event, StageStarted)]
    assert stages == ["resolve", "download", "prove", "store"]
    assert jobs.jobs(settings) == [ended]
    assert ended.progress is not None and ended.progress.stage == "store"
    assert sorted(file.name for file in job.folder.iterdir()) == [
        *("events.jsonl", "exit.json", "job.json", "log", "result.json"),
    ]
    assert job.log.read_text() == ""

    again, replayed = followed(job)
    assert again == ended
    kinds = (StageStarted, StageFinished)
    assert [e for e in replayed if isinstance(e, kinds)] == [e for e in events if isinstance(e, kinds)]
    counts = [(e.stage, e.done) for e in replayed if isinstance(e, BytesAdvanced)]
    assert counts == sorted(counts) and counts


def test_several_models_in_one_job(start: Start) -> None:
    ended, _ = followed(start("tiny/embed", "tiny/classify"))
    assert ended.status == "finished"
    assert [outcome["ref"] for outcome in ended.result()] == ["tiny/embed", "tiny/classify"]


def test_a_pull_that_fails_ends_as_in_the_foreground(start: Start) -> None:
    ended, _ = followed(start("no/such"))
    assert (ended.status, ended.exit_code) == ("failed", errors.ModelNotFoundError.exit_code)
    assert ended.error is not None and ended.error["code"] == "model_not_found"
    assert ended.result() == {"error": ended.error}
    assert "no/such" in ended.log.read_text()


def test_wrong_options_fail_the_job(start: Start) -> None:
    ended, _ = followed(start("tiny/embed", "--nonsense"))
    assert (ended.status, ended.exit_code) == ("failed", 2)


# The starting process ends


def test_a_job_continues_when_the_terminal_closes(hub: HubServer, settings: Settings, start: Start) -> None:
    closed = threading.Event()  # until then no byte of the weights is sent
    held = Fault("latency", path="model.onnx", seconds=0, times=None, on_strike=lambda: closed.wait(FOREVER))
    hub.add_fault(held)
    ours, theirs = pty.openpty()
    name = os.ttyname(theirs)
    command = [sys.executable, "-m", "tests.jobs.on_a_terminal", name, "tiny/embed"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as starter:
        assert starter.stdout is not None
        id = starter.stdout.readline().strip()
        os.close(theirs)
        os.close(ours)
        assert starter.wait() == -signal.SIGHUP
    job = jobs.find(id, settings)
    assert is_alive(job.process)
    closed.set()
    assert followed(job)[0].status == "finished"


def test_a_job_has_its_own_session_and_ignores_sighup_and_the_end_of_follow(slow_job: Job) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(errors.CancelledError):
        jobs.follow(slow_job, lambda event: None, token)
    assert is_alive(slow_job.process)
    pid = slow_job.process.pid
    assert os.getsid(pid) == os.getpgid(pid) == pid != os.getsid(0)
    os.kill(pid, signal.SIGHUP)
    ended = jobs.cancel(slow_job)
    assert (ended.status, ended.exit_code) == ("cancelled", 130)


# Early ends


def test_a_cancelled_job_leaves_no_partial_files(hub: HubServer, slow_job: Job, settings: Settings) -> None:
    ended = jobs.cancel(slow_job)

    assert (ended.status, ended.exit_code) == ("cancelled", 130)
    assert ended.error is not None and ended.error["code"] == "cancelled"
    assert not is_alive(ended.process)
    assert Store(settings.store).models() == []
    assert [file for file in slow_job.folder.iterdir() if file.name.startswith(".")] == []
    hub.clear_faults()
    assert pull_model("tiny/embed", settings=settings).id == "tiny/embed"
    assert jobs.cancel(ended) == ended


def test_sigterm_ends_a_job_cleanly(slow_job: Job) -> None:
    os.kill(slow_job.process.pid, signal.SIGTERM)
    ended, _ = followed(slow_job)
    assert (ended.status, ended.exit_code) == ("cancelled", 130)


def test_a_stopped_job_is_killed(slow_job: Job) -> None:
    os.kill(slow_job.process.pid, signal.SIGSTOP)  # handles no signal
    ended = jobs.cancel(slow_job, grace=0.2)
    assert (ended.status, ended.exit_code) == ("cancelled", None)
    assert not is_alive(ended.process)


def test_a_killed_job_is_lost_and_the_next_resumes(
    hub: HubServer, slow_job: Job, start: Start, settings: Settings
) -> None:
    kill(slow_job)

    ended, _ = followed(slow_job)
    assert (ended.status, ended.exit_code, ended.ended, ended.result()) == ("lost", None, None, None)
    assert ended.progress is not None and ended.progress.stage == "download"
    assert Store(settings.store).models() == []
    hub.clear_faults()
    assert followed(start("tiny/embed"))[0].status == "finished"
    assert jobs.clear(settings, [slow_job.id]) == [ended]
    assert len(jobs.jobs(settings)) == 1


# Several jobs, unknown jobs, obstacles


def test_concurrent_starts_get_different_ids(start: Start, settings: Settings) -> None:
    with ThreadPoolExecutor(4) as pool:
        begun = list(pool.map(start, ["tiny/embed"] * 2 + ["tiny/classify"] * 2))
    ended = [followed(job)[0] for job in begun]
    assert len({job.id for job in ended}) == 4
    assert {job.status for job in ended} == {"finished"}
    assert len(Store(settings.store).models()) == 2
    assert jobs.jobs(settings) == sorted(ended, key=lambda job: (job.started, job.id))


@pytest.mark.parametrize("id", ["xx22x", "..", "../jobs", "", "A", "a/b"])
def test_an_unknown_id(id: str, settings: Settings) -> None:
    with pytest.raises(errors.JobNotFoundError) as caught:
        jobs.find(id, settings)
    assert "gpux jobs" in str(caught.value.hint)


def test_no_jobs_at_all(settings: Settings) -> None:
    assert jobs.jobs(settings) == []
    assert jobs.clear(settings) == []


def test_a_running_job_is_not_removed(slow_job: Job, settings: Settings) -> None:
    with pytest.raises(errors.UsageError, match="is running"):
        jobs.clear(settings, [slow_job.id])
    assert jobs.clear(settings) == []
    ended = jobs.cancel(slow_job)
    assert jobs.clear(settings) == [ended]
    assert list((settings.home / "jobs").iterdir()) == []
    for gone in (jobs.cancel, jobs.remove):
        with pytest.raises(errors.JobNotFoundError):
            gone(slow_job)


def test_arguments_without_a_command(settings: Settings) -> None:
    with pytest.raises(errors.UsageError):
        jobs.start(["--json", "--detach"], settings)
    assert not (settings.home / "jobs").exists()


def test_a_folder_that_cannot_be_written(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.NotWritableError):
        jobs.start(["pull", "tiny/embed"], settings.with_overrides(home=tmp_path / "file"))


def test_a_full_disk_refuses_a_job(settings: Settings) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(errors.DiskFullError):
            jobs.start(["pull", "tiny/embed"], settings)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((settings.home / "jobs").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_drops_events_but_not_the_pull(hub: HubServer) -> None:
    environ = os.environ | {"GPUX_JOB_EVENTS": "/dev/full"}
    command = [sys.executable, "-m", "gpux", "pull", "tiny/embed", "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["id"] == "tiny/embed"


def test_a_removed_folder_drops_events_but_not_the_pull(hub: HubServer, slow_job: Job, settings: Settings) -> None:
    shutil.rmtree(slow_job.folder)
    with pytest.raises(errors.JobNotFoundError):
        followed(slow_job)
    os.kill(slow_job.process.pid, signal.SIGTERM)
    wait_until(lambda: not is_alive(slow_job.process))
    assert not slow_job.folder.exists()


def test_a_process_that_fails_to_start(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os; os.write(2, b'no luck\\n'); os._exit(1)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(errors.GpuxError, match="no luck"):
        jobs.start(["pull", "tiny/embed"], settings)
    assert list((settings.home / "jobs").iterdir()) == []


# Settings and secrets


def test_settings_reach_the_job(start: Start, settings: Settings, tmp_path: Path) -> None:
    other = settings.with_overrides(hf_cache=tmp_path / "cache", token="hf_good")
    ended, _ = followed(start("acme/private", settings=other))
    assert (ended.status, ended.error) == ("finished", None)
    assert (tmp_path / "cache" / "models--acme--private").is_dir()


def test_settings_without_a_token_send_none(start: Start, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    ended, _ = followed(start("acme/private", settings=settings))
    assert ended.error is not None and ended.error["code"] == "model_not_found"


def test_no_token_is_stored_or_shown(start: Start, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    job = start("acme/private", settings=Settings.from_env())
    command = Path(f"/proc/{job.process.pid}/cmdline")
    shown = command.read_bytes() if command.exists() else b""
    ended, _ = followed(job)
    assert ended.status == "finished"
    assert b"hf_good" not in shown
    assert [file for file in job.folder.iterdir() if b"hf_good" in file.read_bytes()] == []
    assert "hf_good" not in repr(ended)


def test_a_gpux_module_in_the_working_directory_is_not_imported(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "click.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    assert followed(start("tiny/embed"))[0].status == "finished"
