"""What ``gpux pull`` and ``gpux convert`` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gpux.cli import figures
from gpux.cli.installing import with_toolchain
from gpux.cli.terminal import Terminal
from gpux.types import StoredModel

_OPTIONS = (
    click.option("--revision", help="Branch, tag, refs/pr/N or commit."),
    click.option("--task", help="The task to run it for; by default what the model's own files say."),
    click.option("--force", is_flag=True, help="Make it again although it is stored."),
    click.option("--allow-inexact", is_flag=True, help="Store a conversion beyond tolerance, marked as inexact."),
    click.option("--trust-remote-code", is_flag=True, help="Run the repository's own code while converting."),
    click.option("--offline", is_flag=True, help="Use what is on this machine, ask no Hub."),
    click.option("--yes", "-y", is_flag=True, help="Install a missing toolchain without asking."),
)


def pull_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that both commands have."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def pull_and_report(terminal: Terminal, ref: str, *, yes: bool, offline: bool, **options: Any) -> None:
    """Pull with progress, then print what is stored."""
    from gpux.pull import pull_model

    terminal.override(offline=offline or None)

    def pull() -> StoredModel:
        with terminal.progress() as progress:
            return pull_model(ref, settings=terminal.settings, progress=progress, **options)

    model = with_toolchain(terminal, pull, yes=yes)
    if terminal.as_json:
        terminal.data(model.to_dict())
    else:
        terminal.line(f"{model.id}@{model.commit[:12]}\t{model.task}\t{figures.proof(model.manifest.proof)}")
