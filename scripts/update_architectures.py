"""Write src/gpux/convert/optimum_architectures.json: ask the worker, inside a toolchain, what Optimum knows.

    python scripts/update_architectures.py [PYTHON]

PYTHON is an interpreter with torch, transformers and optimum-onnx; default: the installed toolchain's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpux.convert.host.toolchain import WORKER, Toolchain
from gpux.system.cancel import CancelToken
from gpux.system.process import converse
from gpux.system.settings import Settings

TABLE = WORKER.parent / "optimum_architectures.json"
PINNED = ("optimum", "optimum-onnx", "transformers")


def ask(python: Path) -> Mapping[str, Any]:
    """The worker's answer to the command `architectures`."""
    events: list[Mapping[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        converse(
            [python, "-I", WORKER],
            {"command": "architectures"},
            log=log,
            on_event=events.append,
            cancel=CancelToken(),
        )
        if not events or events[-1]["event"] != "result":
            sys.exit(f"the worker failed: {events[-1:]}\n{log.read_text()}")
    return events[-1]


def main() -> None:
    """Ask and write."""
    python = Path(sys.argv[1]) if len(sys.argv) > 1 else Toolchain("optimum", Settings.from_env()).python
    answer = ask(python)
    table = {
        "versions": {name: answer["versions"][name] for name in PINNED},
        "architectures": answer["architectures"],
        "others": answer["others"],
    }
    lines = json.dumps(table, indent=1)
    TABLE.write_text(lines + "\n", encoding="utf-8")
    print(f"{TABLE.name}: {len(table['architectures'])} architectures, {len(table['others'])} others", file=sys.stderr)


if __name__ == "__main__":
    main()
