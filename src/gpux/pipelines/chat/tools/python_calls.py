"""Calls in Python's notation, ``name(key="value")``, as Gemma writes them; read, and never run."""

from __future__ import annotations

import ast
import json
from collections.abc import Collection
from typing import Any


def python_calls(code: str, names: Collection[str] | None) -> list[tuple[str, dict[str, Any]]] | None:
    """The calls of a code; None if it is anything else.

    Args:
        code: one call a line, or a list of calls; ``print(…)`` around a call is left out.
        names: of the tools; None: any.
    """
    try:
        tree = ast.parse(code.strip())
        return [_call(node, names) for node in _listed(tree.body)] or None
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def _listed(body: list[ast.stmt]) -> list[ast.expr]:
    found: list[ast.expr] = []
    for statement in body:
        if not isinstance(statement, ast.Expr):
            raise TypeError("a statement")
        value = statement.value
        found += value.elts if isinstance(value, ast.List) else [value]
    return found


def _call(node: ast.expr, names: Collection[str] | None) -> tuple[str, dict[str, Any]]:
    if not isinstance(node, ast.Call):
        raise TypeError("no call")
    function = node.func
    name = (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )
    if name == "print" and len(node.args) == 1 and (names is None or name not in names):
        return _call(node.args[0], names)
    if not name or node.args or (names is not None and name not in names):
        raise ValueError(name)
    arguments = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ValueError("**")
        arguments[keyword.arg] = ast.literal_eval(keyword.value)
    json.dumps(arguments)
    return name, arguments
