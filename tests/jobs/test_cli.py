"""``gpux jobs`` as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import click
import pytest

from gpux import Settings, jobs
from gpux.cli.jobs import detach
from gpux.cli.main import gpux, run
from gpux.cli.terminal import Terminal
from gpux.errors import UsageError
from gpux.jobs import Job
from gpux.jobs.process import is_alive
from tests.hub import HubServer
from tests.jobs.conftest import Start

pytestmark = pytest.mark.hub

Captured = pytest.CaptureFixture[str]


def finished(job: Job) -> Job:
    return jobs.follow(job, lambda event: None)


def test_the_list(start: Start, slow_job: Job, capsys: Captured) -> None:
    failed = finished(start("no/such"))
    for typed in (["jobs"], ["jobs", "list"]):
        assert run(typed) == 0
        rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
        assert [row[:3] for row in rows] == [[slow_job.id, "running", "tiny/embed"], [failed.id, "failed", "no/such"]]
        assert rows[0][3].startswith("download ")
        assert rows[1][3].startswith("no/such: no such model")


def test_an_error_of_many_lines_is_one_row(start: Start, capsys: Captured) -> None:
    job = finished(start("two words"))
    assert job.error is not None and "\n" in job.error["message"]
    assert run(["jobs"]) == 0
    (row,) = capsys.readouterr().out.splitlines()
    assert row.split("\t")[3] == job.error["message"].splitlines()[0]


def test_the_list_as_json(start: Start, capsys: Captured) -> None:
    job = finished(start("tiny/embed"))
    for typed in (["jobs", "--json"], ["jobs", "list", "--json"], ["jobs", "--json", "list"]):
        assert run(typed) == 0
        assert json.loads(capsys.readouterr().out) == [job.to_dict()]


def test_follow_shows_the_stages_and_exits_with_0(start: Start, capsys: Captured) -> None:
    job = start("tiny/embed")
    assert run(["jobs", "follow", job.id]) == 0
    shown, remarks = capsys.readouterr()
    assert shown == ""
    assert "✓ found tiny/embed" in remarks
    assert f"Job {job.id} finished." in remarks
    assert run(["jobs", "follow", job.id, "--json", "-q"]) == 0
    shown, remarks = capsys.readouterr()
    assert (json.loads(shown)["id"], remarks) == ("tiny/embed", "")


def test_follow_ends_with_the_error_of_the_job(start: Start, capsys: Captured) -> None:
    job = start("acme/gated")
    assert run(["jobs", "follow", job.id, "--json"]) == 4
    shown, remarks = capsys.readouterr()
    assert json.loads(shown)["error"]["code"] == "gated_model"
    assert "error: " in remarks


def test_follow_of_several_models_exits_with_their_code(start: Start, capsys: Captured) -> None:
    job = start("tiny/embed", "no/such")
    assert run(["jobs", "follow", job.id]) == 3
    assert f"Job {job.id} failed: see " in capsys.readouterr().err
    assert run(["jobs", "follow", job.id, "--json"]) == 3
    assert [bool(outcome["model"]) for outcome in json.loads(capsys.readouterr().out)] == [True, False]


def test_ctrl_c_leaves_the_job_running_and_a_killed_one_is_lost(slow_job: Job, capsys: Captured) -> None:
    command = [sys.executable, "-m", "gpux", "jobs", "follow", slow_job.id]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "found tiny/embed" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait() == 130
    assert f"job {slow_job.id} is still running" in said
    assert f"gpux jobs cancel {slow_job.id}" in said
    assert is_alive(slow_job.process)

    os.kill(slow_job.process.pid, signal.SIGKILL)
    assert run(["jobs", "follow", slow_job.id]) == 1
    assert "ended without a result" in capsys.readouterr().err


def test_cancel_then_clear(slow_job: Job, settings: Settings, capsys: Captured) -> None:
    assert run(["jobs", "clear", slow_job.id]) == 2
    assert "gpux jobs cancel" in capsys.readouterr().err
    assert run(["jobs", "cancel", slow_job.id]) == 0
    assert capsys.readouterr().err == f"Job {slow_job.id}: cancelled.\n"
    assert run(["jobs", "cancel", slow_job.id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["exit_code"] == 130
    assert run(["jobs", "follow", slow_job.id]) == 130
    capsys.readouterr()
    assert run(["jobs", "clear"]) == 0
    assert capsys.readouterr().err == "1 removed.\n"
    assert run(["jobs"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("action", ["follow", "cancel", "clear"])
def test_an_unknown_id(action: str, capsys: Captured) -> None:
    assert run(["jobs", action, "zz99z"]) == 3
    remarks = capsys.readouterr().err
    assert "no job 'zz99z'" in remarks
    assert "`gpux jobs` lists them" in remarks


def detached(*arguments: str) -> None:
    """``--detach`` of a typed command."""
    with click.Context(gpux, obj={"arguments": arguments}):
        detach(Terminal(as_json=False, quiet=False), ["tiny/embed"])


def test_detach_prints_the_id_and_the_next_commands(hub: HubServer, start: Start, capsys: Captured) -> None:
    detached("-q", "pull", "--detach", "--", "tiny/embed")
    shown, remarks = capsys.readouterr()
    job = finished(jobs.find(shown.strip()))
    assert (job.status, job.arguments, job.models) == ("finished", ("-q", "pull", "--", "tiny/embed"), ("tiny/embed",))
    assert f"`gpux jobs follow {job.id}`" in remarks


def test_a_list_on_standard_input_cannot_be_detached(settings: Settings) -> None:
    with pytest.raises(UsageError, match="no standard input"):
        detached("pull", "--from-file", "-", "--detach")
    assert jobs.jobs(settings) == []
