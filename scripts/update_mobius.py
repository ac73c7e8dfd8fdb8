"""Write src/gpux/convert/mobius_architectures.json: ask the worker, inside a toolchain, what mobius knows.

Types that it knows and gets wrong (:mod:`gpux.convert.mobius_limits`) are left out.

    python scripts/update_mobius.py [PYTHON]

PYTHON is an interpreter with torch, transformers and mobius-onnx; default: the installed toolchain's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpux.convert.host.toolchain import WORKER, Toolchain
from gpux.convert.mobius_limits import WRONG_TYPES
from gpux.system.cancel import CancelToken
from gpux.system.process import converse
from gpux.system.settings import Settings

TABLE = WORKER.parent / "mobius_architectures.json"
PINNED = ("mobius-onnx", "transformers")


def ask(python: Path) -> Mapping[str, Any]:
    """The worker's answer to the command `architectures`."""
    events: list[Mapping[str, Any]] = []
    request = {"command": "architectures", "exporter": "mobius"}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        converse([python, "-I", WORKER], request, log=log, on_event=events.append, cancel=CancelToken())
        if not events or events[-1]["event"] != "result":
            sys.exit(f"the worker failed: {events[-1:]}\n{log.read_text()}")
    return events[-1]


def main() -> None:
    """Ask and write."""
    python = Path(sys.argv[1]) if len(sys.argv) > 1 else Toolchain("mobius", Settings.from_env()).python
    answer = ask(python)
    table = {
        "versions": {name: answer["versions"][name] for name in PINNED},
        "architectures": {name: tasks for name, tasks in answer["architectures"].items() if name not in WRONG_TYPES},
        "others": answer["others"],
    }
    TABLE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(f"{TABLE.name}: {len(table['architectures'])} architectures, {len(table['others'])} others", file=sys.stderr)


if __name__ == "__main__":
    main()
