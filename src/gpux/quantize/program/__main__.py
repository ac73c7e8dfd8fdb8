"""Quantizes the graphs of one variant: ``python -m gpux.quantize.program`` with a request on standard input.

The request is ``{"command": "quantize", "source": folder, "output": folder, "graphs": {name: file}, "method": {...}}``;
:func:`gpux.quantize.program.quantize.quantize_graphs` lists the parameters of a method. The program sends one
``progress`` event per graph, then ``{"event": "result", "graphs": {...}, "source_files": [...], "share": float,
"versions": {...}, "peak_rss": bytes}``. See :mod:`gpux.system.worker_protocol` for the protocol.
"""

from __future__ import annotations

from typing import Any

from gpux.system.worker_protocol import Events, Refused, serve


def answer(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """The result of the request's command; see :func:`gpux.quantize.program.quantize.quantize_graphs`."""
    if request.get("command") != "quantize":
        raise Refused("conversion", f"the quantizer has no command {request.get('command')!r}")
    from gpux.quantize.program.quantize import quantize_graphs  # onnx is imported after the parent is watched

    return quantize_graphs(request, events)


if __name__ == "__main__":
    serve(answer)
