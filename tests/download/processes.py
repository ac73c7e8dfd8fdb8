"""Processes that download all files of a model, to be killed: by gpux and by huggingface_hub."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from gpux.download import slots, transfer
from gpux.huggingface import manager
from tests.forked import CONTEXT, set_environment

FILE = "model.safetensors"
LARGE, RANGE = 8 << 20, 4 << 20
WINDOW = 0.1  #: seconds after which a pull opens further connections
#: Python that has a process download files of tests in several ranges.
SMALL_RANGES = f"from gpux.download import transfer; transfer.LARGE, transfer.RANGE = {LARGE}, {RANGE}\n"

_CLIENT = f"""
import sys
from huggingface_hub import snapshot_download
print(snapshot_download(sys.argv[1]) + "/{FILE}")
"""


class Download(ABC):
    """A running process with the present environment; it is killed if it still runs when the context ends."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether the process has ended, in whatever way."""

    @abstractmethod
    def kill(self) -> None:
        """Kill the process, unless it has ended, and wait for its end."""

    @abstractmethod
    def path(self) -> str:
        """Wait for the end: the path of the model's file."""


class Pull(Download):
    """A pull by gpux, soon in several ranges of ``RANGE`` bytes, with ``environment`` beside the present one."""

    def __init__(self, model: str, **environment: str) -> None:
        self._answer, answer = CONTEXT.Pipe(duplex=False)
        arguments = (model, {**os.environ, **environment}, answer)
        self._process = CONTEXT.Process(target=_pull, args=arguments, daemon=True)
        self._process.start()
        answer.close()

    @property
    def ended(self) -> bool:
        return self._process.exitcode is not None

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._answer.close()

    def interrupt(self) -> int | None:
        """Send what Ctrl-C sends, and wait for the end: the exit code."""
        os.kill(self._process.pid or 0, signal.SIGINT)
        self._process.join()
        return self._process.exitcode

    def path(self) -> str:
        """Wait for the end: the path of the model's file. Raises EOFError if the pull failed."""
        path = self._answer.recv()
        self._process.join()
        assert self._process.exitcode == 0
        return str(path)


class ClientDownload(Download):
    """A download by huggingface_hub, which reads the environment when it is imported."""

    def __init__(self, model: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CLIENT, model],
            env={**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def path(self) -> str:
        out, err = self._process.communicate()
        assert self._process.returncode == 0, err[-2000:]
        return str(out.strip().splitlines()[-1])


def _pull(model: str, environment: Mapping[str, str], answer: Connection) -> None:
    set_environment(environment)
    transfer.LARGE, transfer.RANGE, slots.WINDOW = LARGE, RANGE, WINDOW
    hub = manager.HuggingFaceManager()
    info = hub.get_model_info(model)
    snapshot = hub.fetch(info, [file.path for file in info.files])
    answer.send(str(snapshot.path / FILE))
