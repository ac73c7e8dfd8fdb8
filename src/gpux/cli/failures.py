"""Prints errors: as text on stderr, and as a JSON document on stdout with ``--json``."""

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
    """Print an error, and return its exit code."""
    if "--debug" in args:
        traceback.print_exception(exc)
    error = exc if isinstance(exc, GpuxError) else _interrupted()
    if "--json" in args:
        _document(error)
    with suppress(OSError):  # stderr cannot be written; the exit code remains
        click.echo(click.style("error: ", fg="red", bold=True) + error.message, err=True, color=_color())
        if error.hint:
            click.echo(click.style("  → ", fg="cyan") + error.hint, err=True, color=_color())
    return error.exit_code


def report_usage(exc: click.ClickException, args: Sequence[str]) -> int:
    """Print an error in the command line, in click's own format, and return its exit code."""
    if "--json" in args:
        _document(UsageError(exc.format_message()))
    with suppress(OSError):
        exc.show()
    return exc.exit_code


def report_output(exc: OSError, args: Sequence[str]) -> int:
    """Print that stdout cannot be written (full disk, closed handle), and return the exit code.

    Any other error is raised again.
    """
    if exc.errno not in FULL | FAILED | {errno.EBADF}:
        raise exc
    discard_stdout()
    kind = DiskFullError if exc.errno in FULL else StorageError
    error = kind(f"cannot write the output: {exc.strerror}", hint="Free disk space there, or redirect the output.")
    return report_failure(error.with_traceback(exc.__traceback__), args)


def discard_stdout() -> None:
    """Redirect stdout to the null device, so that Python does not fail to flush it at exit."""
    with suppress(OSError, AttributeError):  # stdout is not a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_what_is_closed() -> None:
    """Open the null device for stdout or stderr where the parent process closed it (``>&-``)."""
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - a stream of the process
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def _document(error: GpuxError) -> None:
    try:
        click.echo(json.dumps({"error": error.to_dict()}, indent=2))
    except OSError:  # the exit code stays that of the error
        discard_stdout()


def _interrupted() -> GpuxError:
    return CancelledError("interrupted", hint="Run the same command again to continue; downloaded data is kept.")


def _color() -> bool | None:
    return False if os.environ.get("NO_COLOR") or not sys.stderr.isatty() else None
