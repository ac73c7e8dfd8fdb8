"""The same for every reference that a command was given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpux.cli.terminal import Terminal
from gpux.errors import GpuxError
from gpux.model.reference import ModelRef


def each(terminal: Terminal, refs: Sequence[ModelRef], action: Callable[[ModelRef], dict[str, Any]]) -> int:
    """Do it for every reference; a failure of one does not stop the others. Prints the documents with ``--json``.

    The exit code is that of the first failure; the failure of a single reference is raised.
    """
    if len(refs) == 1:
        document = action(refs[0])
        if terminal.as_json:
            terminal.data(document)
        return 0
    documents, codes = [], []
    for ref in refs:
        try:
            documents.append(action(ref))
        except GpuxError as exc:
            codes.append(exc.exit_code)
            documents.append({"ref": str(ref), "error": exc.to_dict()})
            terminal.warn(exc.message, exc.hint)
    if terminal.as_json:
        terminal.data(documents)
    return next(iter(codes), 0)
