"""Process marks: ids are reused, clocks are set, machines share folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpux import Settings, errors, jobs
from gpux.jobs.process import ProcessMark, is_alive, is_elsewhere, this_process


@pytest.fixture
def home_settings() -> Settings:
    return Settings.from_env()


def written(settings: Settings, process: ProcessMark, id: str = "bb22b", **changes: Any) -> jobs.Job:
    """A job with the job.json that the process of that mark writes."""
    folder = settings.home / "jobs" / id
    folder.mkdir(parents=True)
    known = {"arguments": ["pull", "a/b"], "models": ["a/b"], "started": "2031-01-01T00:00:00+00:00", "version": "0"}
    (folder / "job.json").write_text(json.dumps(known | process.to_dict() | changes))
    return jobs.find(id, settings)


def test_this_process_is_alive() -> None:
    assert is_alive(this_process())
    assert this_process() == this_process()


def test_a_reused_id_is_another_process(home_settings: Settings) -> None:
    mark = this_process()
    boot, _, ticks = mark.birth.partition(":")
    for other in (replace(mark, birth=f"{boot}:1"), replace(mark, birth=f"after-a-reboot:{ticks}")):
        assert not is_alive(other)
        assert not is_elsewhere(other)
    assert written(home_settings, replace(mark, birth=f"{boot}:1")).status == "lost"


def test_a_zombie_is_not_alive() -> None:
    program = "from gpux.jobs.process import this_process; print(this_process().birth, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        mark = replace(this_process(), pid=process.pid, birth=process.stdout.readline().strip())
        assert is_alive(mark)
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # exited, id still in use
        assert not is_alive(mark)


def test_a_clock_that_was_set_back_changes_no_status(home_settings: Settings) -> None:
    job = written(home_settings, this_process(), started="2099-01-01T00:00:00+00:00")
    assert job.status == "running"
    job = written(
        home_settings, ProcessMark(2**22 + 1, "x:1", this_process().host), "cc22c", started="1970-01-01T00:00:00"
    )
    assert job.status == "lost"


def test_a_job_of_another_machine(home_settings: Settings) -> None:
    job = written(home_settings, ProcessMark(os.getpid(), "another-boot:77", "elsewhere"))
    assert job.status == "running"
    with pytest.raises(errors.UsageError, match="runs on elsewhere"):
        jobs.cancel(job)
    assert jobs.clear(home_settings) == []
    assert jobs.clear(home_settings, [job.id]) == [job]
    assert jobs.jobs(home_settings) == []


def test_a_damaged_job_does_not_hide_others(home_settings: Settings) -> None:
    job = written(home_settings, this_process())
    for name, content in {"cc22c": "{", "dd22d": "{}", "ff22f": '{"pid": 1}', "hh22h": '{"pid": "1"}'}.items():
        (job.folder.with_name(name)).mkdir()
        (job.folder.with_name(name) / "job.json").write_text(content)
    job.folder.with_name("gg22g").mkdir()
    (job.folder.parent / "stray").touch()
    assert jobs.jobs(home_settings) == [job]
    with pytest.raises(errors.CorruptFileError, match="missing required field `arguments`"):
        jobs.find("ff22f", home_settings)


def test_settings_survive_the_environment_of_a_job(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "home": tmp_path / "g",
        "toolchains": tmp_path / "t",
        "hf_cache": tmp_path / "c",
        "token_path": tmp_path / "token",
        "endpoint": "http://127.0.0.1:1",
        "offline": True,
        "timeout": 0.3,
        "ca_bundle": tmp_path / "ca",
        "torch_index": "https://i",
        "max_cache": 12345,
        "job_events": tmp_path / "e",
    }
    for settings in (Settings.from_env({}), Settings.from_env({}, **changes)):
        assert Settings.from_env({"TRANSFORMERS_OFFLINE": "1", **settings.to_env()}) == settings
