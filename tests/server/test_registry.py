"""The registry of models keeps every change, and says what is wrong with its file."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from gpux.errors import CorruptFileError, NotWritableError, StorageError, UsageError
from gpux.server.registry import FILE, SCHEMA, Registry
from tests.read_only import read_only

T = TypeVar("T")
#: Registers models m0, m1 … and prints each number when the change is committed.
_ENDLESS = """
import asyncio, itertools, sys
from pathlib import Path
from gpux.server.registry import Registry

async def main():
    registry = Registry(Path(sys.argv[1]))
    for number in itertools.count():
        await registry.add(f"m{number}", "M", "text-generation", "", {})
        await registry.used("m0")
        print(number, flush=True)

asyncio.run(main())
"""


def run(path: Path, work: Callable[[Registry], Awaitable[T]], *, wait: float = 10.0) -> T:
    """One use of a registry, as by a server that starts and ends."""

    async def used() -> T:
        registry = Registry(path, wait=wait)
        try:
            return await work(registry)
        finally:
            await registry.close()

    return asyncio.run(used())


def add(path: Path, model_id: str = "gpt2") -> None:
    run(path, lambda registry: registry.add(model_id, "GPT-2", "text-generation", "", {"temperature": 0.8}))


def test_a_model_is_kept_with_its_parameters(tmp_path: Path) -> None:
    path = tmp_path / "home" / FILE
    add(path)
    found = run(path, lambda registry: registry.get("gpt2"))
    assert found is not None
    assert (found.name, found.parameters, found.usage_count, found.last_used) == (
        "GPT-2",
        {"temperature": 0.8},
        0,
        None,
    )


def test_reading_creates_no_file(tmp_path: Path) -> None:
    assert run(tmp_path / FILE, lambda registry: registry.contents()).models == ()
    assert not (tmp_path / FILE).exists()


def test_an_id_is_registered_once(tmp_path: Path) -> None:
    add(tmp_path / FILE)
    with pytest.raises(UsageError, match="Model 'gpt2' already exists"):
        add(tmp_path / FILE)


def test_processes_that_share_the_file_lose_no_count(tmp_path: Path) -> None:
    path = tmp_path / FILE
    add(path)

    async def count(registry: Registry) -> None:
        for _ in range(60):
            await registry.used("gpt2")

    with ThreadPoolExecutor(4) as pool:  # each a connection of its own, as a process has
        list(pool.map(lambda _: run(path, count), range(4)))
    found = run(path, lambda registry: registry.get("gpt2"))
    assert found is not None and found.usage_count == 240


def test_what_was_committed_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / FILE
    for _ in range(3):
        path.unlink(missing_ok=True)
        for rest in tmp_path.glob(f"{FILE}-*"):
            rest.unlink()
        command = [sys.executable, "-c", _ENDLESS, str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        last = 0
        for line in process.stdout:
            last = int(line)
            if last >= 20:
                break
        os.kill(process.pid, signal.SIGKILL)
        last = int(([str(last), *process.stdout.read().splitlines()])[-1])
        process.stdout.close()
        process.wait()
        found = run(path, lambda registry: registry.contents()).models
        assert len(found) in (last + 1, last + 2)
        assert found[0].usage_count in (last + 1, last + 2)


def test_a_file_that_is_no_database_is_refused_and_the_hint_helps(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(b"no database " * 100)
    with pytest.raises(CorruptFileError, match="damaged") as caught:
        add(path)
    assert str(tmp_path) not in f"{caught.value.message}{caught.value.hint}"
    assert "move the file elsewhere" in str(caught.value.hint)
    path.rename(tmp_path / "aside")
    add(path)


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / FILE
    add(path)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(CorruptFileError):
        run(path, lambda registry: registry.contents())


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / FILE
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE theirs (a)")
    before = path.read_bytes()
    with pytest.raises(CorruptFileError, match="another program"):
        add(path)
    assert path.read_bytes() == before


def test_a_later_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / FILE
    with closing(sqlite3.connect(path)) as later, later:
        later.execute("CREATE TABLE models (a)")
        later.execute(f"PRAGMA application_id = {SCHEMA.application}")
        later.execute(f"PRAGMA user_version = {SCHEMA.version + 1}")
    with pytest.raises(StorageError, match="later gpux") as caught:
        add(path)
    assert "Update gpux" in str(caught.value.hint)


def test_a_locked_file_is_an_error_that_says_when_to_try_again(tmp_path: Path) -> None:
    path = tmp_path / FILE
    add(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="locked") as caught:
        run(path, lambda registry: registry.used("gpt2"), wait=0.05)
    assert caught.value.details["retry_after"] == 0.05
    other.execute("ROLLBACK")
    other.close()
    run(path, lambda registry: registry.used("gpt2"))


def test_a_read_only_registry_is_read_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "home" / FILE
    add(path)
    with read_only(path.parent):
        found = run(path, lambda registry: registry.get("gpt2"))
        assert found is not None
        with pytest.raises(NotWritableError, match="cannot be"):
            add(path, "other")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(StorageError):
        add(tmp_path / FILE)


def test_a_file_that_is_moved_away_is_created_anew(tmp_path: Path) -> None:
    path = tmp_path / FILE

    async def moved(registry: Registry) -> int:
        await registry.add("a", "A", "text-generation", "", {})
        for part in tmp_path.glob(f"{FILE}*"):
            part.rename(tmp_path / f"aside-{part.name}")
        await registry.add("b", "B", "text-generation", "", {})
        return len((await registry.contents()).models)

    assert run(path, moved) == 1
