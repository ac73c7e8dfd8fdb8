"""Commands of gpux in this process, with the result that ``subprocess.run`` would give.

A new process imports for half a second before it does what a test is about. Tests of signals, terminals, closed streams
and start-up, and one test of each group of commands, start a real one.
"""

from __future__ import annotations

import io
import subprocess
from collections.abc import Mapping

import pytest

from gpux.cli.main import run


def finished(
    *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``gpux ARGUMENTS`` to its end.

    Args:
        arguments: what is typed after ``gpux``.
        stdin: the whole standard input, which is not a terminal.
        environment: variables that are set beside those of this process.

    Returns:
        The exit code, and what was written to each stream.

    Raises:
        Exception: what a process would end with a traceback for.
    """
    given, shown, remarks = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(3))
    given.write(stdin)
    given.seek(0)
    with pytest.MonkeyPatch.context() as patch:
        for name, stream in (("stdin", given), ("stdout", shown), ("stderr", remarks)):
            patch.setattr(f"sys.{name}", stream)
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        code = run(list(arguments))
    texts = []
    for stream in (shown, remarks):
        stream.flush()
        stream.seek(0)
        texts.append(stream.read())
    return subprocess.CompletedProcess(["gpux", *arguments], code, *texts)
