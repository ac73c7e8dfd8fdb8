from __future__ import annotations

import ast
import inspect
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
    """The names that a type checker sees: the imports under ``if TYPE_CHECKING``."""
    tree = ast.parse(Path(gpux.__file__).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return [alias.asname or alias.name for node in imports for alias in node.names]


def test_exported_names_equal_those_for_type_checkers() -> None:
    assert len(set(gpux.__all__)) == len(gpux.__all__)
    assert sorted([*static_names(), "__version__"]) == sorted(gpux.__all__)
    assert dir(gpux) == sorted(gpux.__all__)


@pytest.mark.parametrize("name", gpux.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(gpux, name)
    assert getattr(value, "__name__", name) in (name, f"gpux.{name}")
    assert name == "__version__" or value.__doc__


def test_public_names_are_the_objects_of_their_modules() -> None:
    assert gpux.errors is errors
    assert gpux.GpuxError is errors.GpuxError


def test_the_reference_page_lists_every_name() -> None:
    page = (Path(__file__).parents[1] / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert sorted(re.split(r"[,\s]+", listed.strip())) == sorted(set(gpux.__all__) - {"__version__"})


PULLS = ("pull_model", "plan_model", "explain_model", "pull_models", "pull_files", "plan_files", "open_model")
UPKEEP = ("outdated", "update", "verify_models", "repair_models")
OTHERS = ("HuggingFaceManager", "LocalManager", "check_access", "fit_model")


@pytest.mark.parametrize("name", [*PULLS, *UPKEEP, *OTHERS])
def test_the_keywords_of_a_public_function_are_named_and_typed(name: str) -> None:
    parameters = inspect.signature(getattr(gpux, name)).parameters.values()
    assert [p.name for p in parameters if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)] == []
    assert [p.name for p in parameters if p.annotation is p.empty] == []


def test_pulls_have_the_same_keywords_in_the_same_order() -> None:
    own = ["manager", "settings", "store", "progress", "cancel"]
    keywords = list(inspect.signature(gpux.pull_model).parameters)[1:]
    assert keywords[-len(own) :] == own
    for function in (gpux.plan_model, gpux.explain_model, gpux.pull_models, gpux.ModelManager.pull_model):
        found = [name for name in inspect.signature(function).parameters if name in keywords]
        assert found == [name for name in keywords if name in found]
        assert set(keywords) - set(found) <= set(own)


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
def test_no_heavy_library_is_imported(program: str) -> None:
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
