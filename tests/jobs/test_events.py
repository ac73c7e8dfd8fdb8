"""The file of events, appended by one process and read by others."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from gpux.cli.terminal import Terminal
from gpux.jobs.events import EventLog, EventReader, Record, last_records, without_outdated_counts
from gpux.jobs.job import read_job
from gpux.jobs.process import this_process
from gpux.system.progress import BytesAdvanced, Event, StageFinished, StageStarted, Warned

EVENTS: list[Event] = [
    StageStarted("download", "Downloading \N{SNOWMAN} \udc80"),
    BytesAdvanced("download", 1, 9, "a"),
    BytesAdvanced("download", 9, 9, "b"),
    StageFinished("download", "done", 1.5),
    Warned("mind the gap\nbelow"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def read(file: Path) -> list[Event]:
    return [record.event for record in EventReader(file).read()]


def test_every_kind_of_event_is_read_back(file: Path) -> None:
    with EventLog(file) as log:
        for event in EVENTS:
            log(event)
    assert read(file) == EVENTS
    assert all(record.time for record in EventReader(file).read())


def test_byte_counts_are_throttled_and_the_last_is_kept(file: Path) -> None:
    with EventLog(file) as log:
        for done in range(1, 100_001):
            log(BytesAdvanced("download", done, 100_000))
    found = read(file)
    assert found[0] == BytesAdvanced("download", 1, 100_000)
    assert found[-1] == BytesAdvanced("download", 100_000, 100_000)
    assert len(found) < 1000


def test_several_logs_in_turn_write_one_file(file: Path) -> None:
    for event in EVENTS:
        with EventLog(file) as log:
            log(event)
    assert read(file) == EVENTS


def test_a_truncated_line_is_skipped_alone(file: Path) -> None:
    with EventLog(file) as log:
        log(EVENTS[0])
    file.write_bytes(file.read_bytes() + b'{"time": "x", "kind": "stage_fin')
    with EventLog(file) as log:
        log(EVENTS[3])
    assert read(file) == [EVENTS[0], EVENTS[3]]


def test_an_incomplete_line_is_read_later(file: Path) -> None:
    with EventLog(file) as log:
        log(EVENTS[0])
    whole = file.read_bytes()
    reader = EventReader(file)
    file.write_bytes(whole[:-5])
    assert reader.read() == []
    file.write_bytes(whole)
    assert [record.event for record in reader.read()] == [EVENTS[0]]
    assert reader.read() == []


def test_lines_of_a_newer_version_are_skipped(file: Path) -> None:
    lines = [
        {"time": "t", "kind": "unheard_of", "x": 1},
        {"time": "t", "kind": "warned", "message": "m", "new": 1},
        {"time": "t", "kind": "warned"},
        ["kind"],
        7,
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert EventReader(file).read() == [Record(Warned("m"), "t")]


def test_a_missing_file_and_one_that_cannot_be_written(tmp_path: Path) -> None:
    assert EventReader(tmp_path / "none").read() == last_records(tmp_path / "none") == []
    with EventLog(tmp_path / "no" / "folder") as log:
        log(EVENTS[0])


def test_threads_write_complete_lines(file: Path) -> None:
    def work(label: str) -> None:
        for number in range(200):
            log.labelled(label, Warned(f"{label}{number}"))

    with EventLog(file) as log:
        threads = [threading.Thread(target=work, args=(label,)) for label in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    records = EventReader(file).read()
    for label in "abcd":
        assert [r.event for r in records if r.label == label] == [Warned(f"{label}{number}") for number in range(200)]


def test_a_command_of_a_job_writes_its_progress_here(file: Path) -> None:
    terminal = Terminal(as_json=True, quiet=True)
    terminal.override(job_events=file)
    with terminal.progress() as progress:
        progress(EVENTS[0])
    with terminal.labelled_progress() as labelled:
        labelled("org/name", EVENTS[1])
    assert [(r.label, r.event) for r in EventReader(file).read()] == [("", EVENTS[0]), ("org/name", EVENTS[1])]


def test_outdated_byte_counts_are_skipped() -> None:
    def at(done: int, label: str = "") -> Record:
        return Record(BytesAdvanced("download", done, 9), "t", label)

    records = [at(1), at(2), at(1, "b"), at(3), Record(EVENTS[3], "t"), at(4)]
    assert list(without_outdated_counts(records)) == [at(3), at(1, "b"), Record(EVENTS[3], "t"), at(4)]


def test_the_last_records_of_a_long_file(tmp_path: Path) -> None:
    known = {"arguments": ["pull"], "models": [], "started": "t", "version": "0", **this_process().to_dict()}
    (tmp_path / "job.json").write_text(json.dumps(known))
    with EventLog(tmp_path / "events.jsonl") as log:
        log(StageStarted("download", "Downloading"))
        for number in range(3000):
            log(Warned(f"{number} " + "x" * 50))
        log(BytesAdvanced("download", 3, 9))
        log(StageFinished("download", "", 0.1))  # a part of the stage
    found = read_job(tmp_path).progress
    assert found is not None and (found.stage, found.done, found.total) == ("download", 3, 9)
