"""``gpux convert``."""

from __future__ import annotations

from typing import Any

import click

from gpux.cli.pulling import pull_one, pull_options
from gpux.cli.terminal import Terminal, command


@command("convert")
@click.argument("ref")
@pull_options
def convert_command(terminal: Terminal, ref: str, offline: bool, **options: Any) -> int:
    """Convert a model's original weights and prove the ONNX against them, also where the repository ships ONNX."""
    terminal.override(offline=offline or None)
    return pull_one(terminal, ref, convert=True, **options)
