"""How an error looks to a person, and to a program that asked for ``--json``."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence

import click

from gpux.errors import CancelledError, GpuxError, UsageError


def report_failure(exc: BaseException, args: Sequence[str]) -> int:
    """Print the error on stderr, as JSON on stdout too where that was asked for; the exit code it means."""
    if "--debug" in args:
        traceback.print_exception(exc)
    error = exc if isinstance(exc, GpuxError) else _interrupted()
    if "--json" in args:
        click.echo(json.dumps({"error": error.to_dict()}, indent=2))
    click.echo(click.style("error: ", fg="red", bold=True) + error.message, err=True, color=_colour())
    if error.hint:
        click.echo(click.style("  → ", fg="cyan") + error.hint, err=True, color=_colour())
    return error.exit_code


def report_usage(exc: click.ClickException, args: Sequence[str]) -> int:
    """The same for what click finds wrong with the command itself, in click's own words."""
    if "--json" in args:
        click.echo(json.dumps({"error": UsageError(exc.format_message()).to_dict()}, indent=2))
    exc.show()
    return exc.exit_code


def _interrupted() -> GpuxError:
    return CancelledError("interrupted", hint="Run the same command again: what had arrived is kept.")


def _colour() -> bool | None:
    import os

    return False if os.environ.get("NO_COLOR") or not sys.stderr.isatty() else None
