"""What converters have in common whose exporter runs in a worker: which interpreter, and the conversation with it."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from gpux.convert.base import ConversionReport, ConversionRequest, Converter
from gpux.convert.host.conversation import convert_in_worker
from gpux.convert.host.toolchain import Toolchain
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback
from gpux.system.settings import Settings


class HostedConverter(Converter):
    """A converter whose worker runs in the toolchain of its name, or beside gpux where its libraries are installed.

    Args:
        settings: says where toolchains are.
        python: the interpreter that has the exporter's libraries; default: this one where they are installed here,
            else the isolated toolchain's.
    """

    options: ClassVar[Mapping[str, Any]] = {}  #: what the worker is told besides the request

    def __init__(self, settings: Settings, *, python: Path | None = None) -> None:
        self.toolchain = Toolchain(self.name, settings)
        self._python = python

    @abstractmethod
    def _is_here(self) -> bool:
        """Whether this interpreter has what the worker imports."""

    def check_ready(self) -> None:
        """Return if there is an interpreter to work in."""
        self._interpreter()

    def _interpreter(self) -> Path:
        if self._python is not None:
            return self._python
        if self._is_here():
            return Path(sys.executable)
        self.toolchain.check_ready()
        return self.toolchain.python

    def _convert(self, request: ConversionRequest, progress: ProgressCallback, cancel: CancelToken) -> ConversionReport:
        return convert_in_worker(self._interpreter(), request, self.options, progress, cancel)
