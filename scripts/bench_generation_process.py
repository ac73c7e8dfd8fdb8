"""Processes of the generation benchmark's contenders: requests and responses are lines of JSON.

Imports only the standard library, so that every contender's interpreter can run it.
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
    """Answer the parent's requests until it closes the pipe. Output of libraries goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(functions[name](**arguments)), file=replies, flush=True)


class Contender:
    """One process with a loaded model.

    Args:
        python: interpreter of the process.
        module: module that calls :func:`serve`.
        arguments: command line arguments of that module.
        threads: number of threads.
        log: file for the output of the process.
    """

    def __init__(self, python: Path, module: str, arguments: Sequence[object], threads: int, log: Path) -> None:
        quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore"}
        self._log = log
        self._command = [str(python), "-m", module, *map(str, arguments), str(threads)]
        with log.open("w") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env={**os.environ, **quiet, "OMP_NUM_THREADS": str(threads)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )

    def call(self, name: str, **arguments: Any) -> Any:
        """The response to one request.

        Raises:
            RuntimeError: the process ended; the message has the end of its log.
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
