"""``gpux pull``."""

from __future__ import annotations

from typing import IO, Any

import click

from gpux.cli import detaching
from gpux.cli.fetching import Choice, choice_options, fetch_files
from gpux.cli.previewing import show_preview
from gpux.cli.pulling import pull_one, pull_options, pull_several
from gpux.cli.terminal import Terminal, command


@command("pull")
@click.argument("refs", nargs=-1)
@click.option("--from-file", "listed", type=click.File(), help="A file with one reference on each line; - for stdin.")
@choice_options
@click.option("--detach", is_flag=True, help="Go on in the background, also when the terminal closes; see gpux jobs.")
@click.option("--dry-run", is_flag=True, help="Show files, sizes, what is cached and the disk it needs, and stop.")
@pull_options
def pull_command(
    terminal: Terminal,
    refs: tuple[str, ...],
    listed: IO[str] | None,
    detach: bool,
    dry_run: bool,
    offline: bool,
    choice: Choice,
    **options: Any,
) -> int:
    """Bring models here, ready to run: download, convert, prove, store.

    REFS are org/name, name, org/name@revision, Hub URLs, ./folder or file.onnx. Where a repository has ONNX of its
    own, that is used and nothing is converted. What is there already costs one request at most.

    With --format, --include, --exclude or --all, or for org/name/path/to/file, files are brought as they are into the
    Hugging Face cache; nothing is converted, and their place is printed.
    """
    terminal.override(offline=offline or None)
    if detach:
        detaching.refuse_standard_input(terminal)
    wanted = [*refs, *_read(listed)]
    if not wanted:
        raise click.UsageError("no model was named: gpux pull org/name", click.get_current_context())
    if detach:
        detaching.detach(terminal, wanted)
        return 0
    if dry_run:
        return show_preview(terminal, wanted, choice, task=options["task"], revision=options["revision"])
    if choice.wants_files(wanted):
        return fetch_files(terminal, wanted, choice, options["revision"], options["ignore_disk_space"])
    options["precision"] = choice.precision or "fp32"
    if len(wanted) == 1 and listed is None:
        return pull_one(terminal, wanted[0], **options)
    return pull_several(terminal, wanted, **options)


def _read(listed: IO[str] | None) -> list[str]:
    """The references of a list: blank lines and what follows a # do not count."""
    lines = (line.partition("#")[0].strip() for line in listed or ())
    return [line for line in lines if line]
