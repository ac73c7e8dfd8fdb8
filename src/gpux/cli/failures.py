"""How an error looks to a person, and to a program that asked for ``--json``."""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

import click

from gpux.errors import CancelledError, DiskFullError, GpuxError, StorageError, UsageError
from gpux.system.disk import FAILED, FULL


def report_failure(exc: BaseException, args: Sequence[str]) -> int:
    """Print the error on stderr, as JSON on stdout too where that was asked for; the exit code it means."""
    if "--debug" in args:
        traceback.print_exception(exc)
    error = exc if isinstance(exc, GpuxError) else _interrupted()
    if "--json" in args:
        _document(error)
    with suppress(OSError):  # nowhere to say it: the exit code does
        click.echo(click.style("error: ", fg="red", bold=True) + error.message, err=True, color=_colour())
        if error.hint:
            click.echo(click.style("  → ", fg="cyan") + error.hint, err=True, color=_colour())
    return error.exit_code


def report_usage(exc: click.ClickException, args: Sequence[str]) -> int:
    """The same for what click finds wrong with the command itself, in click's own words."""
    if "--json" in args:
        _document(UsageError(exc.format_message()))
    with suppress(OSError):
        exc.show()
    return exc.exit_code


def report_output(exc: OSError, args: Sequence[str]) -> int:
    """The same for stdout that takes no more: a full disk, a handle that is closed; any other error is raised again."""
    if exc.errno not in FULL | FAILED | {errno.EBADF}:
        raise exc
    discard_stdout()
    kind = DiskFullError if exc.errno in FULL else StorageError
    error = kind(f"cannot write the output: {exc.strerror}", hint="Make room there, or send the output elsewhere.")
    return report_failure(error.with_traceback(exc.__traceback__), args)


def discard_stdout() -> None:
    """Lead what is left of the output to nowhere, or Python complains at exit that it cannot write it."""
    with suppress(OSError, AttributeError):  # stdout is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_what_is_closed() -> None:
    """A stream that was closed by who started us (``>&-``) is None; from here on it leads to nowhere."""
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - a stream of the process
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def _document(error: GpuxError) -> None:
    try:
        click.echo(json.dumps({"error": error.to_dict()}, indent=2))
    except OSError:  # the exit code stays that of the error
        discard_stdout()


def _interrupted() -> GpuxError:
    return CancelledError("interrupted", hint="Run the same command again: what had arrived is kept.")


def _colour() -> bool | None:
    return False if os.environ.get("NO_COLOR") or not sys.stderr.isatty() else None
