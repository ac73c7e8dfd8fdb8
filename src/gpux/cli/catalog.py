"""``gpux catalog``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpux.cli import cataloguing
from gpux.cli.terminal import Terminal, command

if TYPE_CHECKING:
    from gpux.catalog.catalog import Catalog

_AT = click.option("--catalog", "path", type=cataloguing.PATH, help=cataloguing.PATH_HELP)


@command("list")
@_AT
def list_records(terminal: Terminal, path: Path | None = None) -> None:
    """List the models of the catalog."""
    records = _opened(terminal, path).records()
    if terminal.as_json:
        terminal.data([record.to_dict() for record in records])
    elif not records:
        terminal.say("The catalog is empty: `gpux import org/name`.")
    else:
        terminal.table(cataloguing.HEADER, map(cataloguing.row, records), right=(3, 4, 7))


@command("show")
@click.argument("ref")
@_AT
def show_record(terminal: Terminal, ref: str, path: Path | None) -> None:
    """Show a record. REF is a reference, an id, or your own name; --json has all that is known."""
    record = _opened(terminal, path).get(ref)
    if terminal.as_json:
        terminal.data(record.to_dict())
    else:
        cataloguing.show(terminal, record)


@command("export", json_option=False)
@click.argument("refs", nargs=-1)
@click.option(
    "--format", "format_", type=click.Choice(["json", "yaml"]), default="json", show_default=True, help="Form."
)
@click.option("--output", "-o", type=cataloguing.PATH, help="A file, written in one step; stdout by default.")
@click.option("--brief", is_flag=True, help="Without the details: configuration, card, headers.")
@_AT
def export(
    terminal: Terminal, refs: tuple[str, ...], format_: str, output: Path | None, brief: bool, path: Path | None
) -> None:
    """Write the catalog, or the records of REFS, as one document."""
    from gpux.catalog.exporting import FORMATS, write_whole

    catalog = _opened(terminal, path)
    chosen = {record.reference for record in catalog.select(refs)}
    records = [one for one in catalog.records(details=not brief) if not refs or one.reference in chosen]
    text = FORMATS[format_](records)
    if output is None:
        sys.stdout.write(text)
        return
    write_whole(output, text)
    terminal.say(f"{len(records)} written to {output}.")


@command("refresh")
@click.argument("refs", nargs=-1)
@click.option("--offline", is_flag=True, help="Ask no Hub: then nothing can be told.")
@_AT
def refresh_records(terminal: Terminal, refs: tuple[str, ...], offline: bool, path: Path | None) -> int:
    """Describe again what changed at its source, of all records or those of REFS: one request for each to see."""
    from gpux.catalog.refreshing import refresh

    terminal.override(offline=offline or None)
    found = refresh(refs or None, catalog=_opened(terminal, path), settings=terminal.settings)
    if terminal.as_json:
        terminal.data([one.to_dict() for one in found])
    else:
        rows = [
            (one.reference, one.outcome, cataloguing.first_line(one.error) if one.error else ", ".join(one.changes))
            for one in found
        ]
        terminal.table(("Model", "Outcome", "Changes"), rows)
    for hint in dict.fromkeys(one.error.hint for one in found if one.error and one.error.hint):
        terminal.say(f"→ {hint}")
    return next((one.error.exit_code for one in found if one.error), 0)


@command("remove")
@click.argument("refs", nargs=-1, required=True)
@_AT
def remove(terminal: Terminal, refs: tuple[str, ...], path: Path | None) -> None:
    """Take records out; what is stored of the models stays."""
    removed = _opened(terminal, path).remove(refs)
    if terminal.as_json:
        terminal.data([record.to_dict() for record in removed])
    terminal.say(f"{len(removed)} removed: {', '.join(record.reference for record in removed)}.")


@click.group("catalog", invoke_without_command=True, params=list(list_records.params))
@click.pass_context
def catalog_command(ctx: click.Context, as_json: bool, debug: bool, quiet: bool, path: Path | None) -> Any:
    """List what `gpux import` wrote, and show, export, refresh or remove it. Without a command: list."""
    inherited = ctx.obj or {}
    ctx.obj = {**inherited, "json": as_json, "quiet": quiet or bool(inherited.get("quiet")), "catalog": path}
    if ctx.invoked_subcommand:
        return None
    return ctx.invoke(list_records, as_json=as_json, debug=debug, quiet=quiet, path=path)


def _opened(terminal: Terminal, path: Path | None) -> Catalog:
    from gpux.catalog.catalog import Catalog

    inherited = (click.get_current_context().obj or {}).get("catalog")
    return Catalog(path or inherited, settings=terminal.settings)


for _command in (list_records, show_record, export, refresh_records, remove):
    catalog_command.add_command(_command)
