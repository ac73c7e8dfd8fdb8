"""Programs that tests run in their own processes, to kill them or to run two at once: ``python -m`` NAME ROOT."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from gpux.errors import GpuxError
from gpux.model.reference import ModelRef
from gpux.store import Store
from tests.store.variants import COMMITS, ID, can_exchange, commit
from tests.waiting import FOREVER

#: What Python tells its audit hooks of, as far as it touches the disk.
_DISK = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.link", "shutil.rmtree", "fcntl.")


def loop(store: Store) -> None:
    """Commit forever, with and without replace, with files large enough to be killed while they are written."""
    say("ready")
    for number in range(1_000_000):
        content = {"model.onnx": os.urandom(300_000), "other.bin": os.urandom(200_000)}
        commit(store, replace=True, commit=COMMITS[number % 3], files=content)
        store.record_ref("hf", "name", ID, None, COMMITS[number % 3])
        say("committed")


def once(store: Store) -> None:
    """Wait for a line, then commit; prints the path of the variant and its content."""
    say("ready")
    sys.stdin.readline()
    model = commit(store, files={"model.onnx": os.urandom(100_000)})
    say(json.dumps([str(model.path), model.manifest.files[0].sha256]))


def hold(store: Store) -> None:
    """Hold the lock of the usual variant until killed."""
    with store.lock("hf", ID, COMMITS[0], "feature-extraction", "fp32"):
        say("ready")
        time.sleep(FOREVER)


def stage(store: Store) -> None:
    """Keep a staging folder open until killed."""
    with store.staging() as staging:
        (staging.path / "model.onnx").write_bytes(b"half")
        say("ready")
        time.sleep(FOREVER)


def too_large(store: Store) -> None:
    """Commit while no file may grow beyond 1000 bytes; prints the error."""
    import resource  # not on Windows

    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    with store.staging() as staging:
        (staging.path / "model.onnx").write_bytes(b"small")
        say_error(lambda: commit_staged(staging))


def commit_staged(staging: Any) -> None:
    from tests.store.variants import manifest

    staging.commit(manifest())  # the manifest is longer than 1000 bytes


def unprivileged(store: Store) -> None:
    """Try to write as a user without permission; prints the error."""
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    say_error(lambda: commit(store))


def say_error(call: Callable[[], object]) -> None:
    try:
        call()
    except GpuxError as error:
        say(json.dumps(error.to_dict()))


def say(line: str) -> None:
    print(line, flush=True)


def crashes(store: Store) -> None:
    """Kill each scenario at its first, second, third … access to the disk, until it completes.

    After each death the store is looked at as a new process would; prints how many instants there were.
    """
    for name, prepare, act in SCENARIOS:
        instants = 0
        prepared = Store(store.root / name)
        prepare(prepared)
        before = contents(prepared)
        for instant in range(1, 10_000):
            home = Store(store.root / f"{name}-{instant}")
            if prepared.root.exists():
                shutil.copytree(prepared.root, home.root)
            if run_until(instant, partial(act, home)):
                break
            instants += 1
            inspect(home, before, name, instant)
        say(json.dumps([name, instants]))


def run_until(instant: int, act: Callable[[], object]) -> bool:
    """Run the scenario in a child that is killed at the given access to the disk; True if it completed."""
    child = os.fork()
    if child == 0:
        touches = iter(range(1, instant))
        sys.addaudithook(lambda event, _: die_after(touches) if event.startswith(_DISK) else None)
        act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert status == 0, f"the child failed: {status}"
    return True


def die_after(touches: Iterator[int]) -> None:
    if next(touches, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)


def contents(store: Store) -> dict[str, str]:
    """Each listed variant that verifies, and the hash of its graph."""
    models = store.models()
    assert all(store.verify(model).ok for model in models), [store.verify(model) for model in models]
    assert not store.damaged()
    return {model.commit: model.manifest.files[0].sha256 for model in models}


def inspect(store: Store, before: dict[str, str], name: str, instant: int) -> None:
    """Only complete variants are listed, the next pull succeeds, and prune removes all leftovers."""
    after = contents(store)
    assert set(after) <= set(before) | {COMMITS[0]}, (name, instant)
    if name == "replace" and can_exchange(store.root):
        assert set(after) == set(before), instant
    found = store.find_ref(ModelRef("hf", "name"))
    assert found is None or found.commit in after
    store.prune_plan().execute()
    assert contents(store).items() <= after.items()
    assert not [entry for folder in ("staging", "trash") for entry in (store.root / folder).glob("*/*")]
    model = commit(store, replace=True)
    store.record_ref("hf", "name", ID, None, model.commit)
    assert store.get(ModelRef("hf", "name")) == model


def prepare_nothing(store: Store) -> None:
    pass


def prepare_two(store: Store) -> None:
    for number in (1, 0):
        commit(store, commit=COMMITS[number], files={"model.onnx": bytes([number])})
        store.record_ref("hf", "name", ID, None, COMMITS[number])


def act_commit(store: Store) -> None:
    model = commit(store)
    store.record_ref("hf", "name", ID, None, model.commit)


def act_replace(store: Store) -> None:
    commit(store, replace=True)


def act_remove(store: Store) -> None:
    store.removal_plan(store.models()).execute()


def act_prune(store: Store) -> None:
    store.prune_plan().execute()


SCENARIOS: tuple[tuple[str, Callable[[Store], None], Callable[[Store], None]], ...] = (
    ("commit", prepare_nothing, act_commit),
    ("replace", prepare_two, act_replace),
    ("remove", prepare_two, act_remove),
    ("prune", prepare_two, act_prune),
)

if __name__ == "__main__":
    {program.__name__: program for program in (loop, once, hold, stage, too_large, unprivileged, crashes)}[sys.argv[1]](
        Store(Path(sys.argv[2]))
    )
