"""The program that runs inside a toolchain: reads one request, answers with events, never imports gpux.

Requests are ``{"command": "convert", ...}`` (see :mod:`export`), ``{"command": "architectures"}`` and
``{"command": "versions"}``. Libraries are imported by the command that needs them, after the environment is set.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import tempfile
import traceback
from typing import Any

from failures import describe
from protocol import Events, die_with_parent, read_request

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


def prepare() -> None:
    """Set the process up before any library is imported."""
    faulthandler.enable()
    os.environ.update(ENVIRONMENT)
    for name in NOT_NEEDED:
        sys.modules[name] = None  # type: ignore[assignment]  # documented: the import system then says "not found"


def answer(request: dict[str, Any], events: Events) -> None:
    """Run the command of the request."""
    command = request.get("command")
    if command == "convert":
        events.stage("prepare", "Starting torch and the exporter")
        with contextlib.ExitStack() as folders:
            if request.get("trust_remote_code"):  # transformers copies the repository's code: not into the user's cache
                folder = tempfile.TemporaryDirectory(prefix="gpux-modules-")
                os.environ["HF_MODULES_CACHE"] = folders.enter_context(folder)
            from export import convert

            events.result(**convert(request, events))
    elif command == "architectures":
        from architectures import architectures

        events.result(**architectures())
    elif command == "versions":
        from versions import check_imports

        events.result(versions=check_imports())
    else:
        events.failure("conversion", f"the worker knows no command {command!r}")


def main() -> int:
    """Answer one request; 0 with a result, 1 with a typed failure."""
    prepare()
    events = Events()
    request = read_request()
    die_with_parent()
    try:
        answer(request, events)
    except Exception as exc:  # noqa: BLE001 - the boundary of the process: every failure becomes an event
        traceback.print_exc()
        events.failure(**describe(exc))
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Tearing torch down takes longer than it is worth, and the lifeline thread still reads.
    os._exit(code)
