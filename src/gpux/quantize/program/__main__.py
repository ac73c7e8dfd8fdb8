"""The program that reduces the precision of stored graphs: needs onnx and numpy alone, and nothing of gpux.

The request ``{"command": "reduce", "source": folder, "output": folder, "graphs": {name: file}, "recipe": {...}}`` is
answered with one ``progress`` event per graph and ``{"event": "result", "graphs": {...}, "reduced": {name: share},
"versions": {...}, "peak_rss": bytes}``; see :mod:`reducing` for the recipe.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import sys
import traceback
from typing import Any

from gpux.quantize.program.protocol import Events, Refused, end_with_parent, read_request


def describe(exc: BaseException) -> dict[str, Any]:
    """The typed failure behind an exception: ``code``, ``message`` and ``hint``."""
    if isinstance(exc, Refused):
        return {"code": exc.code, "message": exc.message, "hint": exc.hint}
    line = f"{type(exc).__name__}: {' '.join(str(exc).split())[:1000]}"
    if isinstance(exc, MemoryError):
        return {"code": "worker_crashed", "message": line, "hint": "Memory ran out: free some."}
    if isinstance(exc, OSError) and exc.errno == errno.ENOSPC:
        return {"code": "disk_full", "message": line, "hint": None}
    return {"code": "conversion", "message": line, "hint": None}


def answer(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """The result of the request's command; see :func:`reducing.reduce_graphs`."""
    if request.get("command") != "reduce":
        raise Refused("conversion", f"the quantizer knows no command {request.get('command')!r}")
    from gpux.quantize.program.reducing import reduce_graphs  # onnx is imported when the lifeline is up

    return reduce_graphs(request, events)


def main() -> int:
    """Answer one request; 0 with a result, 1 with a typed failure."""
    faulthandler.enable()
    events = Events()
    request = read_request()
    end_with_parent()
    try:
        events.send("result", **answer(request, events))
    except Exception as exc:  # noqa: BLE001 - the boundary of the process: every failure becomes an event
        traceback.print_exc()
        events.send("failure", **describe(exc))
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the lifeline still reads
