"""``gpux convert``."""

from __future__ import annotations

from typing import Any

import click

from gpux.cli.pulling import pull_and_report, pull_options
from gpux.cli.terminal import Terminal, command


@command("convert")
@click.argument("ref")
@pull_options
def convert_command(terminal: Terminal, ref: str, **options: Any) -> None:
    """Convert a model's original weights and prove the ONNX against them, also where the repository ships ONNX."""
    pull_and_report(terminal, ref, convert=True, **options)
