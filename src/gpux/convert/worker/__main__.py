"""The program that runs inside a toolchain: reads one request, answers with events.

Requests are ``{"command": "convert", ...}`` (see :mod:`export`), ``{"command": "architectures"}`` and
``{"command": "versions"}``; ``"exporter"`` says with what: ``optimum``, the default, or ``mobius``. Libraries are
imported by the command that needs them, after the environment is set.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gpux.system.worker_protocol import Events, Refused, serve

#: Nothing is fetched, nothing is reported home, nothing paints.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    # Threads that spin while they wait double the processor time, and more than that on a busy machine.
    "OMP_WAIT_POLICY": "PASSIVE",
}
#: Installed for other purposes; transformers imports them where it finds them, which takes a second and brings nothing.
NOT_NEEDED = ("sklearn", "scipy", "pandas", "matplotlib", "tensorflow", "flax", "jax")
#: Types whose classes make their training loss when they are made, and that with scipy.
WITH_SCIPY = ("maskformer", "mask2former", "oneformer", "eomt")


def prepare(request: dict[str, Any]) -> None:
    """Set the process up before any library is imported."""
    os.environ.update(ENVIRONMENT)
    for name in NOT_NEEDED:
        if name != "scipy" or model_type(request) not in WITH_SCIPY:
            sys.modules[name] = None  # type: ignore[assignment]  # documented: the import system then says "not found"


def model_type(request: dict[str, Any]) -> str | None:
    """What the config of a model that is to be converted says; None for other commands."""
    try:
        found = json.loads(Path(request["source"], "config.json").read_text(encoding="utf-8"))
    except (KeyError, OSError, ValueError):  # said properly by who needs it
        return None
    return found.get("model_type") if isinstance(found, dict) else None


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Import libraries within this: none of what they make is garbage, and looking for it takes a quarter of the time.

    It is left out of every later search too.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def answer(request: dict[str, Any], events: Events) -> dict[str, Any]:
    """Run the command of the request: the values of its result."""
    command, exporter = request.get("command"), request.get("exporter", "optimum")
    if command == "convert":
        return converted(request, events, exporter)
    if command == "graph":
        with uncollected():
            from gpux.convert.worker.mobius.export import write_graph

        return write_graph(request, events)
    if command == "architectures":
        return known(exporter)
    if command == "versions":
        from gpux.convert.worker.common.environment import check_imports

        return {"versions": check_imports(exporter)}
    raise Refused("conversion", f"the worker has no command {command!r}")


def converted(request: dict[str, Any], events: Events, exporter: str) -> dict[str, Any]:
    """The ``convert`` command."""
    events.stage("prepare", "Starting torch and the exporter")
    with contextlib.ExitStack() as folders:
        if request.get("trust_remote_code"):  # transformers copies the repository's code: not into the user's cache
            folder = tempfile.TemporaryDirectory(prefix="gpux-modules-")
            os.environ["HF_MODULES_CACHE"] = folders.enter_context(folder)
        with uncollected():
            convert = converter(exporter)
        return convert(request, events)


def converter(exporter: str) -> Callable[[dict[str, Any], Events], dict[str, Any]]:
    """The ``convert`` command of an exporter."""
    if exporter == "mobius":
        from gpux.convert.worker.mobius.export import convert
    else:
        from gpux.convert.worker.optimum.export import convert
    return convert


def known(exporter: str) -> dict[str, Any]:
    """What an exporter knows."""
    if exporter == "mobius":
        from gpux.convert.worker.mobius.build import architectures
    else:
        from gpux.convert.worker.optimum.architectures import architectures
    return architectures()


if __name__ == "__main__":
    serve(answer, prepare)
