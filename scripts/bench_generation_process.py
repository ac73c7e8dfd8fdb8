"""Contenders of the generation benchmark in processes of their own: requests and answers are lines of JSON.

Imports nothing but the standard library, so that every contender's interpreter can run it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parent.parent


def serve(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Answer the parent's requests until it closes the pipe. What libraries print goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(functions[name](**arguments)), file=replies, flush=True)


class Contender:
    """One process that was started with a model.

    Args:
        python: its interpreter.
        module: which calls :func:`serve`.
        arguments: of that module.
        threads: that it may compute with.
        log: what it says.
    """

    def __init__(self, python: Path, module: str, arguments: Sequence[object], threads: int, log: Path) -> None:
        quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
        self._log = log
        self._command = [str(python), "-m", module, *map(str, arguments), str(threads)]
        with log.open("w") as said:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env={**os.environ, **quiet, "OMP_NUM_THREADS": str(threads)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )

    def call(self, name: str, **arguments: Any) -> Any:
        """The answer to one request.

        Raises:
            RuntimeError: the process ended; with the last that it said.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps([name, arguments]), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"{' '.join(self._command)} ended: {self._log.read_text()[-2000:]}")
        return json.loads(answer)

    def close(self) -> None:
        """End the process; may be called twice."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
