"""Processes that are killed, and processes that use the store at once."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpux.store import Store
from tests.store.processes import run, running
from tests.store.programs import contents
from tests.store.variants import COMMIT, ID


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory if there is one, where flushing is free: a killed process loses no written bytes."""
    memory = Path("/dev/shm")
    if not (memory.is_dir() and os.access(memory, os.W_OK)):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="gpux-", dir=memory) as folder:
        yield Path(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the program forks")
def test_kill_at_every_access_to_the_disk(in_memory: Path) -> None:
    instants = dict(json.loads(line) for line in run("crashes", in_memory).splitlines())
    assert set(instants) == {"commit", "replace", "remove", "prune"}
    assert min(instants.values()) > 10, instants


def test_kill_at_any_time(store: Store) -> None:
    """Somewhere in the commit after the first, second, third … one of a process."""
    for commits in range(1, 7):
        with running("loop", store.root) as process:
            assert process.stdout is not None
            for _ in range(commits):
                assert process.stdout.readline() == "committed\n"
            process.kill()
            process.wait()
        contents(store)
    store.prune_plan().execute()
    assert not list((store.root / "staging").glob("*/"))
    assert not list((store.root / "trash").glob("*"))
    assert contents(store)


def test_two_processes_commit_the_same_variant(store: Store) -> None:
    with running("once", store.root) as first, running("once", store.root) as second:
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = {process.communicate()[0] for process in (first, second)}
    assert len(answers) == 1  # the same folder, and the files of whoever was first
    path, sha256 = json.loads(answers.pop())
    (model,) = store.models()
    assert (str(model.path), model.manifest.files[0].sha256) == (path, sha256)
    assert store.verify(model).ok
    assert not list((store.root / "staging").iterdir())


def test_staging_of_a_killed_process_is_pruned_and_of_a_running_one_is_not(store: Store) -> None:
    with running("stage", store.root) as process:
        assert not store.prune_plan().removals
        process.kill()
        process.wait()
        plan = store.prune_plan()
        assert [(removal.kind, removal.size) for removal in plan.removals] == [("staging", 4)]
        assert plan.execute() == 4
    assert not list((store.root / "staging").iterdir())


def test_a_lock_is_released_when_its_process_is_killed(store: Store) -> None:
    waits: list[bool] = []
    with running("hold", store.root) as process:

        def on_wait() -> None:
            waits.append(True)
            process.kill()

        with store.lock("hf", ID, COMMIT, "feature-extraction", "fp32", on_wait=on_wait):
            assert waits == [True]
        with store.lock("hf", ID, COMMIT, "feature-extraction", "fp32", on_wait=on_wait):
            assert waits == [True]
