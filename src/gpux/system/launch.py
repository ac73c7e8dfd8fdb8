"""Runs a program of gpux in another interpreter: ``python -I launch.py gpux.convert.worker.optimum``.

The other interpreter (a toolchain's) does not have gpux installed, and must not see the packages that are installed
beside gpux. So this file, run by its path, makes gpux importable from its own folder and adds nothing else to
``sys.path``. Programs import only the standard library, the interpreter's own packages and those modules of gpux that
do the same.
"""

from __future__ import annotations

import runpy
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

LAUNCHER = Path(__file__).resolve()


def launch_command(python: str | Path, program: str | Path) -> tuple[str, ...]:
    """The command that runs a program: a module's name, or the path of a Python file."""
    return (str(python), "-I", str(LAUNCHER), str(program))


def register_gpux() -> None:
    """Make ``import gpux`` find the folder that this file belongs to."""
    root = LAUNCHER.parents[1]
    spec = spec_from_file_location("gpux", root / "__init__.py", submodule_search_locations=[str(root)])
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["gpux"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    del sys.argv[0]
    register_gpux()
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
