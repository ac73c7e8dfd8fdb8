"""``gpux serve``: models behind HTTP, in the APIs of OpenAI and others; extra ``server``.

The server's own process runs no model and imports neither onnxruntime nor numpy. Each loaded model has a worker process
of its own (:mod:`gpux.server.workers`), so that unloading returns the memory and a crash of a native library ends one
model. An API (:mod:`gpux.server.api`) translates its requests to calls of :class:`~gpux.server.core.Core`.

>>> from gpux.server import ServerSettings, create_app
>>> app = create_app(ServerSettings(models=("org/name",)))  # for any ASGI server
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpux.server.app import create_app as create_app
    from gpux.server.settings import ServerSettings as ServerSettings

__all__ = ["ServerSettings", "create_app"]

_MODULES = {"create_app": "gpux.server.app", "ServerSettings": "gpux.server.settings"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
