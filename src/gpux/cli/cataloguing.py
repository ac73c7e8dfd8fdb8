"""What ``gpux import`` and ``gpux catalog`` share: overrides as they are typed, and records as people read them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from gpux.cli import figures
from gpux.cli.terminal import Terminal
from gpux.errors import GpuxError, UsageError

if TYPE_CHECKING:
    from gpux.catalog.importing import ImportOutcome
    from gpux.catalog.record import Record

PATH = click.Path(dir_okay=False, path_type=Path)
PATH_HELP = "File of the catalog; by default catalogue.db in GPUX_HOME."
#: A list may be in any encoding: what is no reference is told as one that is none.
LIST = click.File(encoding="utf-8", errors="replace")
HEADER = ("Model", "Name", "Task", "Parameters", "Context", "Licence", "Status", "Uses", "Last used")
_TYPED = ("parameters", "context_length", "name", "description")
_MAIN = ("architecture", "parameters")  #: facts whose lack is said at once


def overrides(options: dict[str, Any]) -> dict[str, Any]:
    """Of the options of ``gpux import``; checked before anything is asked."""
    from gpux.catalog.rules import checked_overrides, field_named

    given = {name: options[name] for name in _TYPED if options[name] is not None}
    for field, text in map(_pair, options["others"]):
        name = field_named(field)
        if name in given:
            raise UsageError(f"{name} was given twice")
        given[name] = (_json(text) if name == "defaults" else text) if text else None
    if options["defaults"]:
        given["defaults"] = {name: _json(text) for name, text in map(_pair, options["defaults"])}
    return checked_overrides(given)


def lines(listed: IO[str] | None) -> list[str]:
    """The references of a list: blank lines and what follows a # do not count."""
    found = (line.lstrip("\ufeff").partition("#")[0].strip() for line in listed or ())
    return [line for line in found if line]


def show_imported(terminal: Terminal, record: Record, *, dry_run: bool) -> None:
    """One record on stdout; what could not be known, and why, on stderr."""
    if terminal.as_json:
        terminal.data(record.to_dict())
    else:
        show(terminal, record)
    _say_unknown(terminal, record)
    if dry_run:
        terminal.say("Nothing was written: this is what an import would write.")


def show_outcomes(terminal: Terminal, outcomes: Sequence[ImportOutcome], *, dry_run: bool) -> None:
    """A line for each import; what failed and why on stderr, with hints, each once."""
    if terminal.as_json:
        terminal.data([outcome.to_dict() for outcome in outcomes])
    else:
        header = ("Model", "Outcome", "Task", "Parameters", "Context", "Licence")
        terminal.table(header, [_outcome(outcome, dry_run) for outcome in outcomes], right=(3, 4))
    for outcome in outcomes:
        if outcome.record is not None:
            _say_unknown(terminal, outcome.record)
        elif outcome.error is not None:
            terminal.warn(first_line(outcome.error))
    failed = [outcome.error for outcome in outcomes if outcome.error]
    for hint in dict.fromkeys(error.hint for error in failed if error.hint):
        terminal.say(f"→ {hint}")
    done = len(outcomes) - len(failed)
    terminal.say(f"{done} {'would be written' if dry_run else 'written'}, {len(failed)} failed.")


def row(record: Record) -> tuple[str, ...]:
    """A record as a line of :data:`HEADER`."""
    facts = record.facts
    return (
        *(record.reference, record.name or "", facts.task or "", figures.count(facts.parameters)),
        *(_context(record), facts.licence or "", record.status, str(record.uses), (record.last_used or "")[:10]),
    )


def show(terminal: Terminal, record: Record) -> None:
    """Everything of a record but the details, empty facts left out."""
    values = record.to_dict()
    skipped = {"details", "unknown", "notes", "overridden", "reference", "scheme", "endpoint", "partial"}
    rows = [("reference", record.reference)]
    for name, value in values.items():
        if name not in skipped and value not in (None, [], {}, "", False):
            said = " (yours)" if name in record.overrides and name not in ("name", "description", "defaults") else ""
            rows.append((name.replace("_", " "), _text(name, value) + said))
    rows += [("unknown", f"{name}: {why}") for name, why in sorted(record.unknown.items())]
    rows += [("note", note) for note in record.notes]
    terminal.table(("", ""), rows)


def first_line(error: GpuxError) -> str:
    """What a cell of a table has room for."""
    return error.message.partition("\n")[0]


def _outcome(outcome: ImportOutcome, dry_run: bool) -> tuple[str, ...]:
    if outcome.record is None:
        return " ".join(outcome.reference.split()), outcome.error.code if outcome.error else "", "", "", "", ""
    record, done = outcome.record, outcome.action or ""
    facts = record.facts
    return (
        *(record.reference, f"would be {done}" if dry_run and done != "unchanged" else done, facts.task or ""),
        *(figures.count(facts.parameters), _context(record), facts.licence or ""),
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
        raise UsageError(f"{text!r} is no NAME=VALUE")
    return name.strip(), value.strip()


def _json(text: str) -> Any:
    """A value as JSON, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
