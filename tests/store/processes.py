"""Running the programs of :mod:`tests.store.programs`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def running(name: str, root: Path) -> Iterator[subprocess.Popen[str]]:
    """The program in its own process, from when it prints that it is ready; killed at the end."""
    command = [sys.executable, "-W", "error", "-m", "tests.store.programs", name, str(root)]
    with subprocess.Popen(command, cwd=REPOSITORY, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def run(name: str, root: Path) -> str:
    """The output of the program."""
    command = [sys.executable, "-W", "error", "-m", "tests.store.programs", name, str(root)]
    done = subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
