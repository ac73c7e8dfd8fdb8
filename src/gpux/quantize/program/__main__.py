"""The program that reduces the precision of stored graphs: needs onnx and numpy alone.

The request ``{"command": "reduce", "source": folder, "output": folder, "graphs": {name: file}, "recipe": {...}}`` is
answered with one ``progress`` event per graph and ``{"event": "result", "graphs": {...}, "share": float,
"versions": {...}, "peak_rss": bytes}``; see :mod:`reducing` for the recipe.
"""

from __future__ import annotations

from typing import Any

from gpux.system.worker_protocol import Events, Refused, serve


def answer(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """The result of the request's command; see :func:`reducing.reduce_graphs`."""
    if request.get("command") != "reduce":
        raise Refused("conversion", f"the quantizer has no command {request.get('command')!r}")
    from gpux.quantize.program.reducing import reduce_graphs  # onnx is imported after the parent is watched

    return reduce_graphs(request, events)


if __name__ == "__main__":
    serve(answer)
