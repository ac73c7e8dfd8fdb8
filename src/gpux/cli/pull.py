"""``gpux pull``."""

from __future__ import annotations

from typing import IO, Any

import click

from gpux.cli import detaching
from gpux.cli.each import each
from gpux.cli.fetching import Choice, choice_options, fetch_files
from gpux.cli.previewing import show_preview
from gpux.cli.pulling import pull_one, pull_options, pull_several
from gpux.cli.terminal import Terminal, command
from gpux.model.reference import ModelRef


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
    wanted = [ModelRef.parse(text).at(options["revision"]) for text in (*refs, *_read(listed))]
    _check(wanted, choice, options, detach=detach, dry_run=dry_run)
    if detach:
        detaching.detach(terminal, [str(ref) for ref in wanted])
        return 0
    if dry_run:
        return each(terminal, wanted, lambda ref: show_preview(terminal, ref, choice, task=options["task"]))
    if choice.wants_files(wanted[0]):
        ignore = options["ignore_disk_space"]
        return each(terminal, wanted, lambda ref: fetch_files(terminal, ref, choice, ignore_disk_space=ignore))
    options = {**options, "precision": choice.precision or "fp32", "revision": None}
    if len(wanted) == 1 and listed is None:
        return pull_one(terminal, str(wanted[0]), **options)
    return pull_several(terminal, [str(ref) for ref in wanted], **options)


def _check(wanted: list[ModelRef], choice: Choice, options: dict[str, Any], *, detach: bool, dry_run: bool) -> None:
    """Refuse what contradicts itself, before anything travels."""
    context = click.get_current_context()
    if not wanted:
        raise click.UsageError("no model was named: gpux pull org/name", context)
    if detach and dry_run:
        raise click.UsageError("--detach and --dry-run: there is nothing to go on with", context)
    as_files = {choice.wants_files(ref) for ref in wanted}
    if len(as_files) == 2:
        raise click.UsageError("some references name files and some models: pull them with two commands", context)
    ignored = [name for name in ("task", "force", "allow_inexact", "discard_source") if options[name]]
    if True in as_files and ignored and not dry_run:
        names = ", ".join("--" + name.replace("_", "-") for name in ignored)
        raise click.UsageError(f"{names}: files that come as they are take no such option", context)


def _read(listed: IO[str] | None) -> list[str]:
    """The references of a list: blank lines and what follows a # do not count."""
    lines = (line.partition("#")[0].strip() for line in listed or ())
    return [line for line in lines if line]
