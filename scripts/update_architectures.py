"""Write src/gpux/convert/NAME_architectures.json, the architectures that the exporter in a toolchain supports.

    python scripts/update_architectures.py optimum|mobius [PYTHON]

PYTHON is an interpreter with the exporter's packages; default: that of the installed toolchain. Model types
for which mobius gives wrong results (:mod:`gpux.convert.mobius`) are left out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from gpux.convert.mobius import WRONG_TYPES
from gpux.convert.registry import find_toolchain
from gpux.system.cancel import CancelToken
from gpux.system.launch import launch_command
from gpux.system.process import converse
from gpux.system.settings import Settings

#: Exporter -> packages whose versions are recorded in the table.
PINNED = {"mobius": ("mobius-onnx", "transformers"), "optimum": ("optimum", "optimum-onnx", "transformers")}


def supported(exporter: str, python: Path) -> Mapping[str, Any]:
    """The worker's answer to the command `architectures`."""
    events: list[Mapping[str, Any]] = []
    request = {"command": "architectures"}
    command = launch_command(python, f"gpux.convert.worker.{exporter}")
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        converse(command, request, log=log, on_event=events.append, cancel=CancelToken())
        if not events or events[-1]["event"] != "result":
            sys.exit(f"the worker failed: {events[-1:]}\n{log.read_text()}")
    return events[-1]


def main() -> None:
    """Write the table of the exporter that the first argument names."""
    exporter = sys.argv[1]
    python = Path(sys.argv[2]) if len(sys.argv) > 2 else find_toolchain(exporter, Settings.from_env()).python
    answer = supported(exporter, python)
    wrong = WRONG_TYPES if exporter == "mobius" else {}
    table = {
        "versions": {name: answer["versions"][name] for name in PINNED[exporter]},
        "architectures": {name: tasks for name, tasks in answer["architectures"].items() if name not in wrong},
        "others": answer["others"],
    }
    file = Path(str(files("gpux.convert"))) / f"{exporter}_architectures.json"
    file.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"{file.name}: {len(table['architectures'])} architectures, {len(table['others'])} others", file=sys.stderr)


if __name__ == "__main__":
    main()
