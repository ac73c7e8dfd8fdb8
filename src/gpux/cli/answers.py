"""How answers of pipelines look to a person."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from gpux.cli.terminal import Terminal

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def print_answers(terminal: Terminal, texts: Sequence[str], answers: Sequence[Any]) -> None:
    """One line or more for each text: labels with scores, filled texts, or the beginning of a vector.

    In a pipe a tab, a line's end or a backslash in a cell is escaped as in C, so that each line has three cells.
    """
    rows: list[tuple[str, ...]] = [
        (text, *cells) for text, answer in zip(texts, answers, strict=True) for cells in _cells(answer)
    ]
    header = ("Input", "Score", "Answer")
    if not sys.stdout.isatty():
        rows = [tuple(cell.translate(_ESCAPES) for cell in row) for row in rows]
    terminal.table(header, rows, right=(1,))


def _cells(answer: Any) -> list[tuple[str, str]]:
    """Score and answer of each line."""
    if isinstance(answer, Mapping) and "text" in answer:  # what was written, and a beam's score
        return [("" if answer["score"] is None else f"{answer['score']:.4f}", str(answer["text"]))]
    if isinstance(answer, Mapping):
        return [(f"{answer['score']:.4f}", str(answer.get("sequence", answer.get("label", ""))))]
    if answer and isinstance(answer[0], float):
        norm = math.sqrt(sum(value * value for value in answer))
        return [("", f"{len(answer)} numbers of norm {norm:.4f}: {_beginning(answer)}")]
    if answer and isinstance(answer[0], Mapping):
        return [cells for item in answer for cells in _cells(item)]
    return [("", f"{len(token)} numbers: {_beginning(token)}") for token in _tokens(answer)]


def _tokens(answer: Any) -> Sequence[Sequence[float]]:
    """The token vectors of one text, without the leading axis of length 1 that transformers has."""
    tokens: Sequence[Sequence[float]] = answer[0] if answer and len(answer) == 1 else answer
    return tokens


def _beginning(values: Sequence[float]) -> str:
    return " ".join(f"{value:+.4f}" for value in values[:5]) + (" …" if len(values) > 5 else "")
