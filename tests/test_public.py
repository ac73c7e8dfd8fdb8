from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import gpux
from gpux import errors

HEAVY = ["onnxruntime", "huggingface_hub", "rich", "numpy", "httpx2", "tokenizers", "onnx", "torch", "transformers"]


def static_names() -> list[str]:
    """What a type checker sees: the imports under ``if TYPE_CHECKING``."""
    tree = ast.parse(Path(gpux.__file__).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return [alias.asname or alias.name for node in imports for alias in node.names]


def test_exported_names_and_their_static_twin() -> None:
    assert len(set(gpux.__all__)) == len(gpux.__all__)
    assert sorted([*static_names(), "__version__"]) == sorted(gpux.__all__)
    assert dir(gpux) == sorted(gpux.__all__)


@pytest.mark.parametrize("name", gpux.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(gpux, name)
    assert getattr(value, "__name__", name) in (name, f"gpux.{name}")
    assert name == "__version__" or value.__doc__


def test_names_are_those_of_their_modules() -> None:
    assert gpux.errors is errors
    assert gpux.GpuxError is errors.GpuxError


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'transformers'"):
        gpux.transformers  # noqa: B018 - the access is the test


def test_the_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z]+\d+)?", gpux.__version__)
    assert version("gpux") == gpux.__version__


@pytest.mark.parametrize(
    "program",
    [
        "import gpux",
        "import gpux; gpux.errors, gpux.ModelRef, gpux.ModelInfo, gpux.Settings.from_env, gpux.CancelToken",
        "from gpux.cli.main import run; assert run(['--help']) == 0",
        "from gpux.cli.main import run; assert run(['--version']) == 0",
        "from gpux.cli.main import run; assert run(['pull', '--help']) == 0",
        "from gpux.cli.main import run; assert run(['pulll']) == 2",
    ],
)
def test_nothing_heavy_is_loaded(program: str) -> None:
    report = "import sys, json; print('\\n' + json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", f"{program}\n{report}"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    loaded = json.loads(result.stdout.splitlines()[-1])
    assert "gpux" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_a_star_import_gives_every_name() -> None:
    program = "from gpux import *; import gpux; assert set(gpux.__all__) <= set(globals())"
    result = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
