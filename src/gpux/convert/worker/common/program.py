"""What the programs of the exporters share: how the process is set up, and the commands that do not depend on one."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from gpux.convert.worker.common.environment import check_imports
from gpux.system.worker_protocol import Events, Refused, Request, serve

#: Command -> the function that imports an exporter's modules and returns the one that answers.
Commands = Mapping[str, Callable[[], Callable[[Request, Events], Mapping[str, Any]]]]

#: No network, no telemetry, no progress bars.
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
#: Not needed: transformers imports each of these if it is installed, which takes a second in all.
NOT_NEEDED = ("sklearn", "scipy", "pandas", "matplotlib", "tensorflow", "flax", "jax")
#: Types that need scipy: for their training loss, which their constructor creates, or for their image processor.
WITH_SCIPY = ("maskformer", "mask2former", "oneformer", "eomt", "owlv2", "vitpose")


def run(commands: Commands) -> NoReturn:
    """Answer the one request of this process.

    ``convert`` must be among the commands; ``versions`` is answered here.
    """

    def answer(request: Request, events: Events) -> Mapping[str, Any]:
        command = str(request.get("command"))
        if command == "versions":
            return {"versions": check_imports(request.get("modules", ()))}
        if command not in commands:
            raise Refused("conversion", f"the worker has no command {command!r}")
        with contextlib.ExitStack() as folders:
            if command == "convert":
                events.stage("prepare", "Starting torch and the exporter")
            if request.get("trust_remote_code"):  # transformers copies the repository's code: not into the user's cache
                folder = tempfile.TemporaryDirectory(prefix="gpux-modules-")
                os.environ["HF_MODULES_CACHE"] = folders.enter_context(folder)
            with _without_collection():
                function = commands[command]()
            return function(request, events)

    serve(answer, prepare)


def prepare(request: Request) -> None:
    """Set the process up before any library is imported."""
    os.environ.update(ENVIRONMENT)
    skip_byte_order_marks()
    for name in NOT_NEEDED:
        if name != "scipy" or _model_type(request) not in WITH_SCIPY:
            sys.modules[name] = None  # type: ignore[assignment]  # documented: the import system then says "not found"


def skip_byte_order_marks() -> None:
    """Let libraries read JSON files that begin with a byte order mark, as editors on Windows write."""
    plain = json.loads

    def loads(s: str | bytes | bytearray, **kwds: Any) -> Any:
        return plain(s.removeprefix("\ufeff") if isinstance(s, str) else s, **kwds)

    vars(json)["loads"] = loads  # json.load calls it too


def _model_type(request: Request) -> str | None:
    """The type in the config of the model to convert; None for other commands."""
    try:
        found = json.loads(Path(request["source"], "config.json").read_text(encoding="utf-8"))
    except (KeyError, OSError, ValueError):  # reported when the config is loaded
        return None
    return found.get("model_type") if isinstance(found, dict) else None


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Import libraries without garbage collection, which would take a quarter of the time and find nothing.

    Their objects are excluded from later collections too.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
