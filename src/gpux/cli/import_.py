"""``gpux import``."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import click

from gpux.cli import cataloguing
from gpux.cli.terminal import Terminal, command
from gpux.errors import UsageError
from gpux.huggingface.search import SORTS


@command("import")
@click.argument("refs", nargs=-1)
@click.option(
    "--from-file", "listed", type=cataloguing.LIST, help="A file with one reference on each line; - for stdin."
)
@click.option("--search", metavar="TEXT", help="Import what a search finds: for a task of that name, else by name.")
@click.option("--sort", type=click.Choice(list(SORTS)), help="Order of --search; trending by default.")
@click.option("--limit", type=click.IntRange(min=1), help="Models of --search at most; 20 by default.")
@click.option("--params", "parameters", metavar="COUNT", help="Number of parameters, e.g. 70B.")
@click.option("--context", "context_length", metavar="TOKENS", help="Context length, e.g. 128000 or 128k.")
@click.option("--name", help="Your own name for it.")
@click.option("--description", help="Your own words about it.")
@click.option("--default", "defaults", multiple=True, metavar="KEY=VALUE", help="A default parameter; JSON, or text.")
@click.option("--set", "others", multiple=True, metavar="FIELD=VALUE", help="Any other field; FIELD= ends an override.")
@click.option("--catalog", "path", type=cataloguing.PATH, help=cataloguing.PATH_HELP)
@click.option("--dry-run", is_flag=True, help="Show the records that would be written, and stop.")
@click.option("--offline", is_flag=True, help="Use what the Hub said last, ask no Hub.")
def import_command(
    terminal: Terminal,
    refs: tuple[str, ...],
    listed: IO[str] | None,
    path: Path | None,
    dry_run: bool,
    offline: bool,
    **options: Any,
) -> int:
    """Write what is known of models into the catalog; no weights travel.

    A model that is there already is described anew; what you said of it stays. One bad line of a file does not stop
    the rest; the exit code is that of the first failure.
    """
    from gpux.catalog.catalog import Catalog
    from gpux.catalog.importing import import_model, import_models

    terminal.override(offline=offline or None)
    given = cataloguing.overrides(options)
    wanted = [*refs, *cataloguing.lines(listed), *_found(terminal, options)]
    if not wanted and listed is None and options["search"] is None:
        raise UsageError("no model was named", hint="gpux import org/name, or --from-file list.txt")
    how: dict[str, Any] = {"catalog": Catalog(path, settings=terminal.settings), "dry_run": dry_run}
    if len(refs) == 1 and len(wanted) == 1:
        record = import_model(refs[0], given, settings=terminal.settings, **how)
        cataloguing.show_imported(terminal, record, dry_run=dry_run)
        return 0
    _refuse_for_several(given)
    outcomes = import_models(wanted, given, settings=terminal.settings, **how)
    cataloguing.show_outcomes(terminal, outcomes, dry_run=dry_run)
    return next((outcome.error.exit_code for outcome in outcomes if outcome.error), 0)


def _found(terminal: Terminal, options: dict[str, Any]) -> list[str]:
    from gpux.catalog.discovery import discover

    text, sort, limit = options["search"], options["sort"], options["limit"]
    if text is None:
        if sort is not None or limit is not None:
            raise UsageError("--sort and --limit are for --search", hint="Add --search text-generation.")
        return []
    found = discover(text, sort=sort or "trending", limit=limit or 20, settings=terminal.settings)
    if not found:
        terminal.say("Nothing found.")
    return found


def _refuse_for_several(given: dict[str, Any]) -> None:
    """One name for many models is a mistake; one licence for all may be meant."""
    if "name" in given:
        raise UsageError("--name is for one model", hint="Import that one alone.")
