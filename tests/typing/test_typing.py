"""The public API for type checkers: the pages' Python under ``mypy --strict``, and the type of each task's pipeline."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args, get_origin, get_overloads

import pytest
from filelock import FileLock

import gpux
from gpux.model.tasks import ALIASES, canonical
from gpux.pipelines.registry import pipelines
from gpux.pull import open as opening

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
    *sorted((ROOT / "docs" / "tutorial").glob("*.md")),
)
#: mypy's, kept between runs: most of a run without it is the check of gpux's own modules.
CACHE = ROOT / ".mypy_cache" / "pages"
BLOCK = re.compile(r"(<!-- client: \S+ -->\n+)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCK_OF_NAMES = re.compile(r"^```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: What stands before a page's first block: names that the page does not repeat, and the reader's own variables.
BEFORE = """\
from __future__ import annotations

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import gpux
from gpux import HuggingFaceManager, pipeline, pull_model


async def page(article: str, pixels: Any, websocket: Any) -> None:
"""
#: What a page's variables are, by its name.
TYPES = {
    "README.md": ["assert_type(model, gpux.StoredModel)"],
    "chat.md": ["assert_type(stream.result, gpux.Generation)", "assert_type(pipe.prompt_text(messages), str)"],
    "errors.md": ["assert_type(embed.encode('a'), NDArray[np.float32])"],
    "first-model.md": [
        "assert_type(embed.encode(['a']), NDArray[np.float32])",
        "assert_type(classify.labels, list[str])",
    ],
    "generate-text.md": ["assert_type(stream.result, gpux.Generation)"],
    "several-models.md": ["assert_type(outcome.model, gpux.StoredModel | None)"],
}


def blocks(page: Path) -> list[str]:
    """The Python of a page, without programs that gpux's environment cannot check.

    Those run in a toolchain, or use a client of a server: ``./dev clients`` runs those below ``<!-- client: NAME -->``.
    """
    others = ("gpux.system.worker_protocol", "gpux.convert.worker", "from openai import")
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    chosen = [block for client, block in found if not client and not any(other in block for other in others)]
    # A block that begins with `# name.py` is a module of the page, which all blocks share here.
    modules = re.findall(r"^# (\w+)\.py$", "\n".join(chosen), re.MULTILINE)
    own = re.compile(rf"^from ({'|'.join(modules)}) import .*\n", re.MULTILINE) if modules else None
    return [own.sub("", block) if own else block for block in chosen]


@pytest.fixture
def reported(shared_folder: Callable[[str], Path]) -> dict[str, list[str]]:
    """mypy's errors by file, of one run for all files and all workers of a parallel run."""
    folder = shared_folder("typing")
    result = folder / "errors.json"
    with FileLock(folder / "lock"):
        if not result.is_file():
            result.write_text(json.dumps(check_types(folder / "pages", cache=CACHE)), encoding="utf-8")
    found: dict[str, list[str]] = json.loads(result.read_text(encoding="utf-8"))
    return found


def check_types(folder: Path, *, cache: Path) -> dict[str, list[str]]:
    """Write the pages' Python and the hand-written file to a folder, and run mypy there."""
    folder.mkdir()
    for page in PAGES:
        if found := blocks(page):
            text = BEFORE + textwrap.indent("\n".join([*found, *TYPES.get(page.name, ())]), "    ")
            (folder / module_of(page)).write_text(text, encoding="utf-8")
    (folder / "tasks.py").write_text((Path(__file__).parent / "tasks.py").read_text(encoding="utf-8"), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--config-file",
        "",
        "--cache-dir",
        cache,
    ]
    run = subprocess.run([*command, "."], cwd=folder, capture_output=True, text=True)
    assert run.returncode in (0, 1), run.stderr
    errors: dict[str, list[str]] = {file.name: [] for file in folder.glob("*.py")}
    for line in run.stdout.splitlines():
        errors[line.partition(":")[0]].append(line)
    return errors


def module_of(page: Path) -> str:
    return f"{page.stem.replace('-', '_')}.py"


def test_every_task_and_its_options_type_check(reported: dict[str, list[str]]) -> None:
    assert reported["tasks.py"] == []


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_the_python_of_a_page_type_checks(page: Path, reported: dict[str, list[str]]) -> None:
    assert reported[module_of(page)] == []


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_a_page_imports_public_names_alone(page: Path) -> None:
    """Public is what `gpux` exports, and what docs/reference/api.md shows with its module."""
    shown = re.findall(
        r"^::: (\S+)", (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    for statement in ast.walk(ast.parse("\n".join(blocks(page)), type_comments=False)):
        if isinstance(statement, ast.ImportFrom) and str(statement.module).startswith("gpux."):
            for alias in statement.names:
                assert {statement.module, f"{statement.module}.{alias.name}"} & {*shown, "gpux.errors"}, alias.name
        elif isinstance(statement, ast.Import):
            assert not [alias.name for alias in statement.names if alias.name.startswith("gpux.")]


def test_the_reference_lists_every_public_name() -> None:
    text = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    listed = BLOCK_OF_NAMES.search(text)
    assert listed is not None
    assert sorted(re.findall(r"\w+", listed[1])) == sorted({*gpux.__all__} - {"__version__"})


def test_each_task_has_an_overload_with_the_aliases_that_its_pipeline_answers() -> None:
    tasks = pipelines().keys()
    overloads = [
        eval(overload.__annotations__["task"], vars(opening))
        for overload in get_overloads(opening.pipeline)
        if "task" in overload.__annotations__
    ]
    literals = [set(get_args(task)) for task in overloads if get_origin(task) is Literal]
    assert {task for names in literals for task in names & tasks} == set(tasks)
    for names in literals:
        (task,) = names & tasks
        aliases = {alias for alias in ALIASES if canonical(alias) == task} - tasks
        assert names == aliases | {task}
