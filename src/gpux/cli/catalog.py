"""``gpux import`` and ``gpux catalog``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from gpux.cli import figures
from gpux.cli.references import reference_argument, references_argument, required_references_argument
from gpux.cli.terminal import CommandGroup, Terminal, command
from gpux.errors import GpuxError, UsageError
from gpux.huggingface.search import SORTS

if TYPE_CHECKING:
    from gpux.catalog.catalog import Catalog
    from gpux.catalog.importing import ImportOutcome
    from gpux.catalog.record import Record

_PATH = click.Path(dir_okay=False, path_type=Path)
_CATALOG = click.option("--catalog", "path", type=_PATH, help="Catalog file; default: catalogue.db in GPUX_HOME.")
#: Bytes that are not UTF-8 are replaced, so that such a line is reported as an invalid reference.
_LIST = click.File(encoding="utf-8", errors="replace")
_HEADER = ("Model", "Name", "Task", "Parameters", "Context", "License", "Status", "Uses", "Last used")
_OVERRIDES = ("parameters", "context_length", "name", "description")  #: fields with an option of their own
_MAIN = ("architecture", "parameters")  #: facts whose absence is reported on stderr


@command("import")
@references_argument
@click.option("--from-file", "listed", type=_LIST, help="File with one reference per line; - for stdin.")
@click.option(
    "--search", metavar="TEXT", help="Import the results of a search, by task if TEXT names one, else by model name."
)
@click.option("--sort", type=click.Choice(list(SORTS)), help="Order of --search; default: trending.")
@click.option("--limit", type=click.IntRange(min=1), help="Maximum number of results of --search; default: 20.")
@click.option("--model", "named", multiple=True, metavar="REF", help="A model, as the argument REFS.")
@click.option("--params", "parameters", metavar="COUNT", help="Number of parameters: 70B, 350M; 70 is 70 billion.")
@click.option("--context", "context_length", metavar="TOKENS", help="Context length, e.g. 128000 or 128k.")
@click.option("--name", help="Your own name for the model.")
@click.option("--description", help="Your own description of the model.")
@click.option(
    "--default", "defaults", multiple=True, metavar="KEY=VALUE", help="A default parameter; VALUE is JSON or text."
)
@click.option(
    "--set",
    "others",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Override any other field; FIELD= removes the override.",
)
@_CATALOG
@click.option("--dry-run", is_flag=True, help="Show the records that would be written, and stop.")
@click.option("--offline", is_flag=True, help="Send no request; use the last answers of the Hub.")
def import_command(
    terminal: Terminal,
    refs: tuple[str, ...],
    named: tuple[str, ...],
    listed: IO[str] | None,
    path: Path | None,
    dry_run: bool,
    offline: bool,
    **options: Any,
) -> int:
    """Add models to the catalog: their metadata, without weights.

    A model that is already in the catalog is updated and your overrides are kept. An invalid line of a file does not
    stop the others; the exit code is that of the first error.
    """
    from gpux.catalog.catalog import Catalog
    from gpux.catalog.importing import import_model, import_models

    terminal.override(offline=offline or None)
    overrides, refs = _overrides(options), (*refs, *named)
    wanted = [*refs, *_lines(listed), *_found(terminal, options)]
    if not wanted and listed is None and options["search"] is None:
        raise UsageError("no model was named", hint="gpux import org/name, or --from-file list.txt")
    catalog = Catalog(path, settings=terminal.settings)
    if len(refs) == 1 and len(wanted) == 1:
        record = import_model(refs[0], overrides, catalog=catalog, settings=terminal.settings, dry_run=dry_run)
        _show_imported(terminal, record, dry_run=dry_run)
        return 0
    if "name" in overrides:
        raise UsageError("--name is for one model", hint="Import that model alone.")
    outcomes = import_models(wanted, overrides, catalog=catalog, settings=terminal.settings, dry_run=dry_run)
    _show_outcomes(terminal, outcomes, dry_run=dry_run)
    return next((outcome.error.exit_code for outcome in outcomes if outcome.error), 0)


def _found(terminal: Terminal, options: dict[str, Any]) -> list[str]:
    from gpux.catalog.importing import discover

    text, sort, limit = options["search"], options["sort"], options["limit"]
    if text is None:
        if sort is not None or limit is not None:
            raise UsageError("--sort and --limit are for --search", hint="Add --search text-generation.")
        return []
    found = discover(text, sort=sort or "trending", limit=limit or 20, settings=terminal.settings)
    if not found:
        terminal.say("Nothing found.")
    return found


@command("list")
@_CATALOG
def list_records(terminal: Terminal, path: Path | None = None) -> None:
    """List the models of the catalog."""
    records = _opened(terminal, path).records()
    if terminal.as_json:
        terminal.data([record.to_dict() for record in records])
    elif not records:
        terminal.say("The catalog is empty: `gpux import org/name`.")
    else:
        terminal.table(_HEADER, map(_row, records), right=(3, 4, 7))


@command("show")
@reference_argument
@_CATALOG
def show_record(terminal: Terminal, ref: str, path: Path | None) -> None:
    """Show a record. REF is a reference, an id, or your own name; --json adds the details."""
    record = _opened(terminal, path).get(ref)
    if terminal.as_json:
        terminal.data(record.to_dict())
    else:
        _show(terminal, record)


@command("export", json_option=False)
@references_argument
@click.option(
    "--format",
    "format_",
    type=click.Choice(["json", "yaml"]),
    default="json",
    show_default=True,
    help="Document format.",
)
@click.option("--output", "-o", type=_PATH, help="Output file, replaced atomically; default: stdout.")
@click.option("--brief", is_flag=True, help="Omit the details: configuration, card, headers.")
@_CATALOG
def export(
    terminal: Terminal, refs: tuple[str, ...], format_: str, output: Path | None, brief: bool, path: Path | None
) -> None:
    """Export the catalog, or the records of REFS, as one document."""
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
@references_argument
@click.option("--offline", is_flag=True, help="Send no request: records of the Hub are then reported as unknown.")
@_CATALOG
def refresh_records(terminal: Terminal, refs: tuple[str, ...], offline: bool, path: Path | None) -> int:
    """Update the records whose commit changed, of REFS or of all. One request per record checks the commit."""
    from gpux.catalog.refreshing import refresh

    terminal.override(offline=offline or None)
    found = refresh(refs or None, catalog=_opened(terminal, path), settings=terminal.settings)
    if terminal.as_json:
        terminal.data([one.to_dict() for one in found])
    else:
        rows = [
            (one.reference, one.outcome, _first_line(one.error) if one.error else ", ".join(one.changes))
            for one in found
        ]
        terminal.table(("Model", "Outcome", "Changes"), rows)
    for hint in dict.fromkeys(one.error.hint for one in found if one.error and one.error.hint):
        terminal.say(f"→ {hint}")
    return next((one.error.exit_code for one in found if one.error), 0)


@command("remove")
@required_references_argument
@_CATALOG
def remove(terminal: Terminal, refs: tuple[str, ...], path: Path | None) -> None:
    """Remove records; stored models are kept."""
    removed = _opened(terminal, path).remove(refs)
    if terminal.as_json:
        terminal.data([record.to_dict() for record in removed])
    terminal.say(f"{len(removed)} removed: {', '.join(record.reference for record in removed)}.")


@click.group("catalog", cls=CommandGroup, invoke_without_command=True, params=list(list_records.params))
@click.pass_context
def catalog_command(ctx: click.Context, as_json: bool, debug: bool, quiet: bool, path: Path | None) -> Any:
    """List, show, export, refresh or remove the records of `gpux import`. Without a command: list."""
    inherited = ctx.obj or {}
    ctx.obj = {**inherited, "json": as_json, "quiet": quiet or bool(inherited.get("quiet")), "catalog": path}
    if ctx.invoked_subcommand:
        return None
    return ctx.invoke(list_records, as_json=as_json, debug=debug, quiet=quiet, path=path)


def _opened(terminal: Terminal, path: Path | None) -> Catalog:
    from gpux.catalog.catalog import Catalog

    inherited = (click.get_current_context().obj or {}).get("catalog")
    return Catalog(path or inherited, settings=terminal.settings)


def _overrides(options: dict[str, Any]) -> dict[str, Any]:
    """The overrides in the options of ``gpux import``, checked before any request is sent."""
    from gpux.catalog.rules import checked_overrides, field_named

    given = {name: options[name] for name in _OVERRIDES if options[name] is not None}
    for field, text in map(_pair, options["others"]):
        name = field_named(field)
        if name in given:
            raise UsageError(f"{name} was given twice")
        given[name] = (_json(text) if name == "defaults" else text) if text else None
    if options["defaults"]:
        given["defaults"] = {name: _json(text) for name, text in map(_pair, options["defaults"])}
    return checked_overrides(given)


def _lines(listed: IO[str] | None) -> list[str]:
    """The references of a list, without blank lines and comments (``#``)."""
    found = (line.lstrip("\ufeff").partition("#")[0].strip() for line in listed or ())
    return [line for line in found if line]


def _show_imported(terminal: Terminal, record: Record, *, dry_run: bool) -> None:
    """Print one record on stdout, and why main facts are unknown on stderr."""
    if terminal.as_json:
        terminal.data(record.to_dict())
    else:
        _show(terminal, record)
    _say_unknown(terminal, record)
    if dry_run:
        terminal.say("Nothing was written; an import would write this record.")


def _show_outcomes(terminal: Terminal, outcomes: Sequence[ImportOutcome], *, dry_run: bool) -> None:
    """Print one line per import, and errors with their hints on stderr."""
    if terminal.as_json:
        terminal.data([outcome.to_dict() for outcome in outcomes])
    else:
        header = ("Model", "Outcome", "Task", "Parameters", "Context", "License")
        terminal.table(header, [_outcome(outcome, dry_run) for outcome in outcomes], right=(3, 4))
    for outcome in outcomes:
        if outcome.record is not None:
            _say_unknown(terminal, outcome.record)
        elif outcome.error is not None:
            terminal.warn(_first_line(outcome.error))
    failed = [outcome.error for outcome in outcomes if outcome.error]
    for hint in dict.fromkeys(error.hint for error in failed if error.hint):
        terminal.say(f"→ {hint}")
    done = len(outcomes) - len(failed)
    terminal.say(f"{done} {'would be written' if dry_run else 'written'}, {len(failed)} failed.")


def _row(record: Record) -> tuple[str, ...]:
    """The columns of :data:`_HEADER`."""
    facts = record.facts
    return (
        *(record.reference, record.name or "", facts.task or "", figures.count(facts.parameters)),
        *(_context(record), facts.license or "", record.status, str(record.uses), (record.last_used or "")[:10]),
    )


def _show(terminal: Terminal, record: Record) -> None:
    """Print a record without its details; empty fields are omitted."""
    values = record.to_dict()
    skipped = {"details", "unknown", "notes", "overridden", "reference", "scheme", "endpoint", "partial"}
    rows = [("reference", record.reference)]
    for name, value in values.items():
        if name not in skipped and value not in (None, [], {}, "", False):
            own = name in record.overrides and name not in ("name", "description", "defaults")
            rows.append((name.replace("_", " "), _text(name, value) + (" (yours)" if own else "")))
    rows += [("unknown", f"{name}: {why}") for name, why in sorted(record.unknown.items())]
    rows += [("note", note) for note in record.notes]
    terminal.table(("", ""), rows)


def _first_line(error: GpuxError) -> str:
    """The first line of the message, for a table cell."""
    return error.message.partition("\n")[0]


def _outcome(outcome: ImportOutcome, dry_run: bool) -> tuple[str, ...]:
    if outcome.record is None:
        return " ".join(outcome.reference.split()), outcome.error.code if outcome.error else "", "", "", "", ""
    record, done = outcome.record, outcome.action or ""
    facts = record.facts
    return (
        *(record.reference, f"would be {done}" if dry_run and done != "unchanged" else done, facts.task or ""),
        *(figures.count(facts.parameters), _context(record), facts.license or ""),
    )


def _say_unknown(terminal: Terminal, record: Record) -> None:
    missing: Iterable[str] = dict.fromkeys(record.unknown[name] for name in _MAIN if name in record.unknown)
    for why in missing:
        terminal.say(f"! {record.reference}: {why}")


def _context(record: Record) -> str:
    length = record.facts.context_length
    return f"{length:,}" if length else ""


def _text(name: str, value: Any) -> str:
    if name in ("parameters", "active_parameters"):
        return f"{value:,} ({figures.count(value)})"
    if name == "size":
        return figures.size(value)
    if isinstance(value, dict):
        return ", ".join(f"{key}={json.dumps(item, ensure_ascii=False)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value[:10])) + (f" … {len(value) - 10} more" if len(value) > 10 else "")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"{text!r} is not NAME=VALUE")
    return name.strip(), value.strip()


def _json(text: str) -> Any:
    """Parse a value as JSON; text that is not JSON is returned unchanged."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


for _command in (list_records, show_record, export, refresh_records, remove):
    catalog_command.add_command(_command)
