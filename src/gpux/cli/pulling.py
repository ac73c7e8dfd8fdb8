"""What ``gpux pull`` and ``gpux convert`` share: options, and pulls of one model or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from gpux.cli import figures
from gpux.cli.installing import install_toolchain, with_toolchain
from gpux.cli.terminal import Terminal
from gpux.model.variant import StoredModel

_OPTIONS = (
    click.option("--revision", help="Branch, tag, refs/pr/N or commit."),
    click.option("--task", help="The task to run it for; by default what the model's own files say."),
    click.option("--device", default="auto", show_default=True, help="What --precision auto chooses for: cpu, cuda …"),
    click.option("--force", is_flag=True, help="Make it again although it is stored."),
    click.option("--prove", is_flag=True, help="Prove a model's own ONNX against its original weights."),
    click.option("--allow-inexact", is_flag=True, help="Store a conversion beyond tolerance, marked as inexact."),
    click.option("--trust-remote-code", is_flag=True, help="Run the repository's own code while converting."),
    click.option("--discard-source", is_flag=True, help="Remove the source files when the model is stored."),
    click.option("--ignore-disk-space", is_flag=True, help="Begin although the disk looks too full."),
    click.option("--ignore-memory", is_flag=True, help="Begin although the memory looks too small."),
    click.option("--offline", is_flag=True, help="Use what is on this machine, ask no Hub."),
    click.option("--yes", "-y", is_flag=True, help="Install a missing toolchain without asking."),
)


def pull_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that both commands have."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def pull_one(terminal: Terminal, ref: str, *, yes: bool, **options: Any) -> int:
    """Pull with progress, then print what is stored."""
    from gpux.pull.api import pull_model

    def pull() -> StoredModel:
        with terminal.progress() as progress:
            return pull_model(ref, settings=terminal.settings, progress=progress, **options)

    model = with_toolchain(terminal, pull, yes=yes)
    if terminal.as_json:
        transfer = model.report.to_dict() if model.report else None
        terminal.data({**model.to_dict(), "transfer": transfer})
    else:
        _say(terminal, model)
    return 0


def pull_several(terminal: Terminal, refs: Sequence[str], *, yes: bool, **options: Any) -> int:
    """Pull each, a few at a time; print one report. The exit code is that of the first failure."""
    from gpux.errors import ToolchainMissingError
    from gpux.pull.batch import PullOutcome, pull_models

    def pull(chosen: Sequence[str]) -> dict[str, PullOutcome]:
        with terminal.labelled_progress() as progress:
            found = pull_models(chosen, settings=terminal.settings, progress=progress, **options)
        return {outcome.ref: outcome for outcome in found}

    outcomes = pull(refs)
    waiting = [ref for ref, outcome in outcomes.items() if isinstance(outcome.error, ToolchainMissingError)]
    if waiting and (yes or terminal.interactive):
        install_toolchain(terminal, "optimum", yes=yes)
        outcomes |= pull(waiting)
    if terminal.as_json:
        terminal.data([outcome.to_dict() for outcome in outcomes.values()])
    for outcome in outcomes.values():
        if outcome.model is not None and not terminal.as_json:
            _say(terminal, outcome.model)
        if outcome.error is not None:
            terminal.warn(outcome.error.message, outcome.error.hint)
    return next((outcome.error.exit_code for outcome in outcomes.values() if outcome.error), 0)


def _say(terminal: Terminal, model: StoredModel) -> None:
    if model.report is not None and model.report.received:
        terminal.say(figures.transfer(model.report))
    terminal.line(f"{model.id}@{model.commit[:12]}\t{model.task}\t{figures.proof(model.manifest.proof)}")
