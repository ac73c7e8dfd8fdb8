"""``gpux search``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import click

from gpux.cli import figures
from gpux.cli.terminal import Terminal, command
from gpux.huggingface.search import SORTS, SearchQuery, read_parameters
from gpux.inspect.formats import FORMATS
from gpux.model.info import ModelInfo

#: Maximum number of search results that --runnable checks per requested result.
_CHECKED = 50


@command("search")
@click.argument("query", nargs=-1)
@click.option("--task", help="The Hub's name of a task, e.g. text-classification.")
@click.option("--author", help="Only models of this user or organization.")
@click.option("--library", help="Only models of this library, e.g. sentence-transformers.")
@click.option("--format", "format_", type=click.Choice(FORMATS), help="Only models with weights in this format.")
@click.option("--license", help="Only models under this license, e.g. apache-2.0.")
@click.option("--gated/--not-gated", default=None, help="Only gated models, or only models that are not gated.")
@click.option("--min-size", metavar="COUNT", help="Minimum number of parameters, e.g. 350M.")
@click.option("--max-size", metavar="COUNT", help="Maximum number of parameters, e.g. 7B.")
@click.option("--runnable", is_flag=True, help="Only models that gpux can run or convert.")
@click.option("--sort", type=click.Choice(list(SORTS)), default="downloads", show_default=True, help="Sort order.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Maximum number of results.")
@click.option("--offline", is_flag=True, help="Send no request; the search then fails.")
def search_command(
    terminal: Terminal, query: tuple[str, ...], limit: int, offline: bool, runnable: bool, **filters: Any
) -> None:
    """Search the Hub for models, by default the most downloaded first."""
    from gpux.huggingface.manager import PAGE, HuggingFaceManager

    terminal.override(offline=offline or None)
    filters["format"] = filters.pop("format_")
    for name in ("min", "max"):
        filters[f"{name}_parameters"] = _count(filters.pop(f"{name}_size"))
    wanted = SearchQuery(" ".join(query), **filters)
    page = PAGE if runnable else min(limit, PAGE)
    results = HuggingFaceManager(terminal.settings).iter_models(wanted, page=page)
    kept = _runnable(terminal, results, limit) if runnable else ((info, None) for info in results)
    found = list(islice(kept, limit))
    if terminal.as_json:
        terminal.data([info.to_dict() | ({"runs": runs} if runnable else {}) for info, runs in found])
        return
    _show(terminal, found)
    if not found:
        terminal.say("Nothing found.")


def _runnable(terminal: Terminal, results: Iterator[ModelInfo], limit: int) -> Iterator[tuple[ModelInfo, str | None]]:
    """The models that gpux can run, each with ``onnx`` or a converter; stops after too many others."""
    from gpux.describe.runnable import runnable

    find: Callable[[ModelInfo], str | None] = runnable(terminal.settings)
    most = _CHECKED * limit
    for number, info in enumerate(results, 1):
        if (runs := find(info)) is not None:
            yield info, runs
        if number == most:
            terminal.say(f"! {most} models were checked; narrow the search to find more")
            return


def _count(text: str | None) -> int | None:
    return None if text is None else read_parameters(text)


def _show(terminal: Terminal, found: Sequence[tuple[ModelInfo, str | None]]) -> None:
    """Print one column per fact in a pipe, and fewer, combined columns on a terminal."""
    if sys.stdout.isatty():
        rows = [_brief(*each) for each in found]
        terminal.table(("Model", "About", "Downl.", "Likes", "Updated"), rows, right=(2, 3), whole=0)
    else:
        terminal.table((), [_row(*each) for each in found])


def _brief(info: ModelInfo, runs: str | None) -> tuple[str, ...]:
    note = {None: "", "onnx": "runs without conversion"}.get(runs, f"converts with {runs}")
    words = (
        info.task,
        figures.count(info.parameters),
        info.license,
        info.gated and "gated",
        " ".join(info.formats),
        note,
    )
    return (
        info.id,
        ", ".join(word for word in words if word),
        figures.count(info.downloads),
        figures.count(info.likes),
        (info.last_modified or "")[:7],
    )


def _row(info: ModelInfo, runs: str | None) -> tuple[str, ...]:
    row = (
        info.id,
        info.task or "",
        figures.count(info.parameters),
        figures.count(info.downloads),
        figures.count(info.likes),
        info.license or "",
        " ".join(info.formats),
        "gated" if info.gated else "",
        (info.last_modified or "")[:10],
    )
    return row if runs is None else (*row, runs)
