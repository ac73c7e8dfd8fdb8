"""``gpux bench serve`` as a person types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_serve import gpux, process
from tests.server.bench.partner import KEY, MODEL, Partner, partner
from tests.server.conftest import filled_home as filled_home
from tests.server.conftest import server as server
from tests.server.running import WRITER, Running
from tests.waiting import wait_until


@pytest.fixture
def other() -> Iterator[Partner]:
    with partner() as found:
        yield found


def test_the_figures_are_printed(other: Partner, tmp_path: Path) -> None:
    ended = process(tmp_path, "bench", "serve", other.url(), "--requests", "6", "--concurrency", "3")
    assert ended.returncode == 0, ended.stderr
    rows = dict(line.split("\t", 1) for line in ended.stdout.splitlines())
    assert rows["Successful requests"] == "6"
    assert rows["Total generated tokens"] == "60"
    assert len(rows["Time to first token, TTFT (ms)"].split("\t")) == 4
    assert float(rows["Request throughput (req/s)"]) > 0
    assert f"{MODEL}: 6 requests, 3 at a time" in ended.stderr
    assert "This client used" in ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_one_blank_line_is_between_the_tables_of_a_terminal(other: Partner, tmp_path: Path) -> None:
    import pty  # POSIX only

    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "gpux", "bench", "serve", other.url(), "--requests", "2"]
    environment = {**os.environ, "GPUX_HOME": str(tmp_path), "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    ended = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, env=environment, check=True)
    os.close(theirs)
    lines = [line.rstrip() for line in os.read(ours, 1 << 16).decode().splitlines()]
    os.close(ours)
    heading = next(place for place, line in enumerate(lines) if "Median" in line)
    assert lines[heading - 1] == "", ended.stderr
    assert lines[heading - 2].startswith(" Output token throughput")
    assert lines[heading].endswith("P99")


def test_json_has_the_setting_and_the_figures(other: Partner, tmp_path: Path) -> None:
    options = ("--requests", "4", "--rate", "100", "--warmup", "0", "--json", "--endpoint", "completions")
    ended = gpux(tmp_path, "bench", "serve", other.url("busy"), *options)
    found = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert (found["model"], found["endpoint"], found["request_rate"]) == (MODEL, "completions", 100)
    assert (found["successful_requests"], found["errors"]) == (2, {"HTTP 429 busy": 2})
    assert set(found["ttft_ms"]) == {"mean", "median", "p95", "p99"}


def test_a_measurement_without_an_answer_fails_and_says_why(other: Partner, tmp_path: Path) -> None:
    ended = gpux(tmp_path, "bench", "serve", other.url("cut"), "--requests", "3", "--warmup", "0")
    assert ended.returncode == 10
    assert "! 3 requests: connection lost" in ended.stderr


def test_ctrl_c_prints_what_was_measured(other: Partner, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "gpux", "bench", "serve", other.url("slow"), "--requests", "1000", "--json"]
    environment = {**os.environ, "GPUX_HOME": str(tmp_path)}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    wait_until(lambda: other.counts["slow"] > 30)  # checks, warm-up, and at least one round of answers
    running.send_signal(signal.SIGINT)
    shown, errors = running.communicate(timeout=60)
    found = json.loads(shown)
    assert (running.returncode, errors) == (130, "")
    assert found["interrupted"] is True
    assert found["successful_requests"] >= 8


def test_the_key_is_that_of_the_environment_or_of_the_option(other: Partner, tmp_path: Path) -> None:
    options = ("bench", "serve", other.url("keys"), "--requests", "1", "--warmup", "0", "--json")
    refused = gpux(tmp_path, *options)
    assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (10, "unauthorized")
    assert gpux(tmp_path, *options, GPUX_API_KEY=KEY).returncode == 0
    by_option = gpux(tmp_path, *options, "--api-key", KEY, GPUX_API_KEY="other")
    assert by_option.returncode == 0
    assert KEY not in by_option.stdout + by_option.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rate", "1", "--concurrency", "2"), "exclude each other"),
        (("--rate", "inf"), "not a finite number"),
        (("--rate", "0"), "--rate"),
        (("--requests", "0"), "--requests"),
        (("--extra-body", "[]"), "not a JSON object"),
        (("--dataset", "missing.jsonl"), "missing.jsonl cannot be read"),
        (("--duration", "never"), "not a duration"),
    ],
)
def test_options_that_are_invalid_are_refused(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    ended = gpux(tmp_path, "bench", "serve", "http://127.0.0.1:9", *options)
    assert ended.returncode == 2
    assert message in ended.stderr


def test_without_an_address_the_running_server_is_measured(server: Running, tmp_path: Path) -> None:
    none = gpux(tmp_path, "bench", "serve", "--model", WRITER)
    assert none.returncode == 10
    assert "no server is running" in none.stderr
    options = ("--model", WRITER, "--requests", "3", "--prompt-tokens", "30", "--max-tokens", "4", "--json")
    ended = gpux(server.home, "bench", "serve", *options)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["url"], found["successful_requests"]) == (f"{server.url}/v1/chat/completions", 3)
    several = gpux(server.home, "bench", "serve", "--json")
    assert json.loads(several.stdout)["error"]["code"] == "usage"
