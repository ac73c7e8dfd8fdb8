"""``gpux search``."""

from __future__ import annotations

import click

from gpux.cli import figures
from gpux.cli.terminal import Terminal, command


@command("search")
@click.argument("query", nargs=-1)
@click.option("--task", help="The Hub's name of a task, e.g. text-classification.")
@click.option("--author", help="Only models of this user or organization.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Results at most.")
@click.option("--offline", is_flag=True, help="Ask no Hub: then there is nothing to search.")
def search_command(
    terminal: Terminal, query: tuple[str, ...], task: str | None, author: str | None, limit: int, offline: bool
) -> None:
    """Search the Hub for models, the most downloaded first."""
    from gpux.managers.huggingface import HuggingFaceManager

    terminal.override(offline=offline or None)
    found = HuggingFaceManager(terminal.settings).search_models(" ".join(query), task=task, author=author, limit=limit)
    if terminal.as_json:
        terminal.data([info.to_dict() for info in found])
        return
    terminal.table(
        ("Model", "Task", "Parameters", "Downloads", "Likes", "Licence", "Formats"),
        [
            (
                info.id,
                info.task or "",
                figures.count(info.parameters),
                figures.count(info.downloads),
                figures.count(info.likes),
                info.licence or "",
                " ".join(info.formats),
            )
            for info in found
        ],
        right=(2, 3, 4),
    )
    if not found:
        terminal.say("Nothing found.")
