"""``gpux convert``."""

from __future__ import annotations

from typing import Any

import click

from gpux.cli.explaining import explain
from gpux.cli.pulling import pull_one, pull_options
from gpux.cli.terminal import Terminal, command

#: What a plan depends on.
_PLANNED = ("revision", "task", "precision", "device", "converter")


@command("convert")
@click.argument("ref")
@click.option("--precision", default="fp32", show_default=True, help="fp32, fp16, int8, int4, or auto for the device.")
@click.option("--converter", metavar="NAME", help="The converter to use: optimum, mobius …; by default the best.")
@click.option("--explain", "explained", is_flag=True, help="Show which ways there are and why, and stop.")
@pull_options
def convert_command(
    terminal: Terminal, ref: str, explained: bool, precision: str, offline: bool, **options: Any
) -> int:
    """Convert a model's original weights and prove the ONNX against them, also where the repository ships ONNX."""
    terminal.override(offline=offline or None)
    options["precision"] = precision
    if explained:
        return explain(terminal, ref, **{name: options[name] for name in _PLANNED})
    return pull_one(terminal, ref, convert=True, **options)
