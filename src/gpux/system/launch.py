"""Runs a module of gpux in another interpreter: ``python -I launch.py gpux.convert.worker``.

The other interpreter (a toolchain's) does not have gpux installed, and must not see the packages that are installed
beside it. So this file, run by its path, makes gpux importable from its own folder and adds nothing else to
``sys.path``. Modules that run this way import only the standard library, the toolchain's packages and each other.
"""

from __future__ import annotations

import runpy
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

LAUNCHER = Path(__file__).resolve()


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
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
