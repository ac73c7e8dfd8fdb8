"""The worker of the converter ``optimum``: ``convert``, ``versions`` and ``architectures``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gpux.convert.worker.common.program import run
from gpux.system.worker_protocol import Events, Request


def _convert() -> Callable[[Request, Events], Mapping[str, Any]]:
    from gpux.convert.worker.optimum.export import convert  # imports torch

    return convert


def _architectures() -> Callable[[Request, Events], Mapping[str, Any]]:
    from gpux.convert.worker.optimum.architectures import supported_architectures  # imports transformers

    return lambda request, events: supported_architectures()


if __name__ == "__main__":
    run({"convert": _convert, "architectures": _architectures})
