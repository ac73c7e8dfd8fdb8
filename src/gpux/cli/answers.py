"""Answers of pipelines as a table."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gpux.cli.terminal import Terminal

if TYPE_CHECKING:
    from gpux.pipelines.base import AnswerRow

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def print_answers(
    terminal: Terminal, texts: Sequence[str], answers: Sequence[Any], render: Callable[[Any], list[AnswerRow]]
) -> None:
    """Print one row or more for each text: the text, a score if the answer has one, and the answer.

    In a pipe, a tab, a line break or a backslash in a cell is escaped as in C, so that each row is one line of three
    cells.

    Args:
        terminal: prints the table.
        texts: the inputs.
        answers: one for each text.
        render: the rows of an answer, by the pipeline that gave it.
    """
    rows = [
        (text, "" if row.score is None else f"{row.score:.4f}", row.text)
        for text, answer in zip(texts, answers, strict=True)
        for row in render(answer)
    ]
    if not sys.stdout.isatty():
        rows = [(text.translate(_ESCAPES), score, shown.translate(_ESCAPES)) for text, score, shown in rows]
    terminal.table(("Input", "Score", "Answer"), rows, right=(1,))
