"""The worker of the converter ``mobius``: ``convert``, ``graph``, ``versions`` and ``architectures``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gpux.convert.worker.common.program import run
from gpux.system.worker_protocol import Events, Request


def _convert() -> Callable[[Request, Events], Mapping[str, Any]]:
    from gpux.convert.worker.mobius.export import convert  # imports torch when the graph is written

    return convert


def _graph() -> Callable[[Request, Events], Mapping[str, Any]]:
    from gpux.convert.worker.mobius.export import write_graph  # imports mobius

    return write_graph


def _architectures() -> Callable[[Request, Events], Mapping[str, Any]]:
    from gpux.convert.worker.mobius.build import supported_architectures  # imports mobius

    return lambda request, events: supported_architectures()


if __name__ == "__main__":
    run({"convert": _convert, "graph": _graph, "architectures": _architectures})
