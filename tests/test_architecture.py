"""Compares the architecture and dependencies pages, and the contracts in pyproject.toml, with the code's imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "gpux"
ENTRY_POINTS = {"__init__.py", "__main__.py"}


def table(page: str, heading: str, column: int = 1) -> dict[str, list[str]]:
    """The first table of a page whose first column has that heading: first cell -> the code spans of another column.

    A first cell with several code spans makes several rows.
    """
    lines = iter((ROOT / "docs" / page).read_text(encoding="utf-8").splitlines())
    next(line for line in lines if line.lower().startswith(f"| {heading} |"))
    next(lines)  # |---|---|
    found = {}
    for line in lines:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        for name in re.findall(r"`([^`]+)`", cells[0]):
            found[name] = re.findall(r"`([^`]+)`", cells[column])
    return found


def contracts(kind: str) -> list[dict[str, Any]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    return [contract for contract in settings["contracts"] if contract["type"] == kind]


@cache
def rooms() -> set[str]:
    """The packages and modules directly below ``gpux``, as ``name/`` and ``name.py``."""
    packages = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    return packages | {path.name for path in PACKAGE.glob("*.py")} - ENTRY_POINTS


@cache
def statements(path: Path) -> list[ast.Import | ast.ImportFrom]:
    """The imports of a module at run time, deferred ones included."""
    return list(_imports(ast.parse(path.read_text(encoding="utf-8"))))


def _imports(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):  # has no statements
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        else:
            yield from _imports(child)


@cache
def importers() -> dict[str, set[str]]:
    """Third-party module -> paths of the modules that import it, deferred imports included."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in imports(path):
            if name not in sys.stdlib_module_names and name != "gpux":
                found[name].add(path.relative_to(PACKAGE).as_posix())
    return dict(found)


def imports(path: Path) -> Iterator[str]:
    """The top-level names that a module imports at run time."""
    for statement in statements(path):
        if isinstance(statement, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in statement.names)
        elif statement.module and not statement.level:
            yield statement.module.partition(".")[0]


def dotted(path: str) -> str:
    """``huggingface/client.py`` -> ``gpux.huggingface.client``."""
    return ".".join(("gpux", *path.removesuffix(".py").strip("/").split("/")))


def test_the_architecture_page_lists_every_room() -> None:
    assert set(table("explanation/architecture.md", "room")) == rooms()


def imported_rooms(path: Path) -> Iterator[str]:
    """The names below ``gpux`` that a module imports at run time."""
    for statement in statements(path):
        if isinstance(statement, ast.ImportFrom) and statement.module and statement.module.partition(".")[0] == "gpux":
            yield from (f"{statement.module}.{alias.name}".split(".")[1] for alias in statement.names)


def room_imports(room: str) -> set[str]:
    """The other rooms that the modules of a room import, as the page writes them."""
    files = [PACKAGE / room] if room.endswith(".py") else sorted((PACKAGE / room).rglob("*.py"))
    found = {name for file in files for name in imported_rooms(file)}
    return {name for name in rooms() if name.rstrip("/").removesuffix(".py") in found} - {room}


def test_the_architecture_page_names_the_imports_of_each_room() -> None:
    stated = table("explanation/architecture.md", "room", column=2)
    assert {room: set(named) for room, named in stated.items()} == {room: room_imports(room) for room in rooms()}


def test_the_architecture_page_has_the_order_of_the_contract() -> None:
    (layers,) = contracts("layers")
    rank = {name.strip(): place for place, layer in enumerate(layers["layers"]) for name in layer.split("|")}
    places = [rank[dotted(room)] for room in table("explanation/architecture.md", "room")]
    assert places == sorted(places, reverse=True)


def test_every_room_has_a_layer() -> None:
    (layers,) = contracts("layers")
    names = {name.strip() for layer in layers["layers"] for name in layer.split("|")}
    assert names == {dotted(room) for room in rooms()}


def test_the_dependencies_page_lists_every_library() -> None:
    assert set(table("dependencies.md", "library")) == set(importers())


def test_the_dependencies_page_names_the_importers() -> None:
    for library, named in table("dependencies.md", "library").items():
        actual = importers()[library]
        unnamed = {path for path in actual if not any(path == name or path.startswith(name) for name in named)}
        unused = {name for name in named if not any(path == name or path.startswith(name) for path in actual)}
        assert (library, unnamed, unused) == (library, set(), set())


def test_contracts_allow_the_same_importers() -> None:
    allowed: dict[str, set[str]] = {}
    for contract in contracts("protected"):
        for library in contract["protected_modules"]:
            assert library not in allowed, f"{library} has two contracts"
            allowed[library] = set(contract["allowed_importers"])
    page = {library: {dotted(name) for name in named} for library, named in table("dependencies.md", "library").items()}
    assert allowed == page


def test_the_tests_that_the_guarantees_name_exist() -> None:
    page = (ROOT / "docs" / "explanation" / "guarantees.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(tests/[^`]+)`", page))
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
