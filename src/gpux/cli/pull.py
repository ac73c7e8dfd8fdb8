"""``gpux pull``."""

from __future__ import annotations

from typing import Any

import click

from gpux.cli.pulling import pull_and_report, pull_options
from gpux.cli.terminal import Terminal, command


@command("pull")
@click.argument("ref")
@pull_options
def pull_command(terminal: Terminal, ref: str, **options: Any) -> None:
    """Bring a model here, ready to run: download, convert, prove, store.

    REF is org/name, name, org/name@revision, a Hub URL, ./folder or file.onnx. Where the repository has ONNX of its
    own, that is used and nothing is converted. What is there already costs one request at most.
    """
    pull_and_report(terminal, ref, **options)
