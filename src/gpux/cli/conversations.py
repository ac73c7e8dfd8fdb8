"""``gpux conversations``: what chats have stored."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gpux.cli.generating import printable
from gpux.cli.saved_chat import (
    ask_password,
    database_options,
    database_url,
    password_option,
    read_password,
    with_database,
)
from gpux.cli.terminal import CommandGroup, Terminal, command
from gpux.errors import ConversationAccessError, UsageError
from gpux.system.words import counted

if TYPE_CHECKING:
    from gpux.chat.database.database import Database
    from gpux.chat.database.values import Conversation, UsageStats

T = TypeVar("T")
_PATH = click.Path(dir_okay=False, path_type=Path)
_ID = click.argument("id")
_USAGE = ("Day", "Provider", "Model", "Requests", "Failures", "Prompt", "Answer", "Time", "First token")
_BRIEF_USAGE = ("Day", "Model", "Requests", "Tokens", "Time", "First token")
_HEADER = ("Id", "Title", "Model", "Messages", "Changed", "")
_BRIEF_HEADER = ("Id", "Conversation", "Messages", "Changed")


@click.group("conversations", cls=CommandGroup)
def conversations_command() -> None:
    """List, show, export and delete the conversations that `gpux serve` and `gpux chat --save` have stored."""


@command("list")
@click.option("--limit", type=click.IntRange(min=1), help="At most that many; default: all.")
@database_options
def list_conversations(terminal: Terminal, limit: int | None, url: str | None) -> None:
    """List the conversations, the last changed first."""

    async def found(database: Database) -> list[Conversation]:
        return await database.conversations.list(limit=limit)

    listed = with_database(terminal, url, found)
    if terminal.as_json:
        terminal.data([one.to_dict() for one in listed])
    elif not listed:
        terminal.say("There are no conversations: `gpux chat REF --save` stores one.")
    else:
        _table(terminal, listed)


def _table(terminal: Terminal, listed: list[Conversation]) -> None:
    """Every column in a pipe; on a terminal, the model and the privacy of a conversation below its title."""
    if not sys.stdout.isatty():
        terminal.table(_HEADER, map(_row, listed))
        return
    rows = []
    for id, title, model, count, changed, private in map(_row, listed):
        below = ", ".join(one for one in (model, private) if one)
        rows.append((id, "\n".join(one for one in (title, below) if one), count, changed.replace(" ", "\n")))
    terminal.table(_BRIEF_HEADER, rows, right=(2,), whole=0)


def _row(one: Conversation) -> tuple[str, ...]:
    private = "private" if one.is_private else ""
    title = printable(" ".join(one.tab_name.split()))
    changed = f"{one.updated_at.astimezone():%Y-%m-%d %H:%M}"
    return (one.id, title, one.llm_model or "", str(one.message_count), changed, private)


@command("show")
@_ID
@password_option
@database_options
def show(terminal: Terminal, id: str, password_file: Path | None, url: str | None) -> None:
    """Show a conversation for reading; --json prints it without the data of its images."""

    async def found(database: Database, password: str | None) -> Any:
        if not terminal.as_json:
            return await database.export_markdown(id, password)
        exported: dict[str, Any] = await database.export(id, password)
        for message in exported["messages"]:
            for image in message["images"]:
                image.pop("data", None)
        return exported

    shown = _with_password(terminal, url, password_file, found)
    if terminal.as_json:
        terminal.data(shown)
    else:
        click.echo(printable(shown), nl=False)


@command("export", json_option=False)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option(
    "--format",
    "format_",
    type=click.Choice(["json", "markdown"]),
    default="json",
    show_default=True,
    help="JSON has everything, images as base64; Markdown is for reading.",
)
@click.option("--output", "-o", type=_PATH, help="Output file, replaced atomically; default: stdout.")
@password_option
@database_options
def export(
    terminal: Terminal,
    ids: tuple[str, ...],
    format_: str,
    output: Path | None,
    password_file: Path | None,
    url: str | None,
) -> None:
    """Export conversations as one document, by default all; private ones only by their id, with their password."""
    from gpux.system.disk import disk_errors
    from gpux.system.files import write_atomic

    async def found(database: Database, password: str | None) -> list[Any]:
        wanted = list(ids)
        if not ids:
            every = await database.conversations.list()
            wanted = [one.id for one in every if not one.is_private]
            if hidden := len(every) - len(wanted):
                terminal.say(f"{counted(hidden, 'private conversation')} left out: name the id of each to export it.")
        make = database.export if format_ == "json" else database.export_markdown
        return [await make(id, password) for id in wanted]

    documents = _with_password(terminal, url, password_file, found)
    if format_ == "json":
        text = json.dumps({"format": 1, "conversations": documents}, indent=2, ensure_ascii=False) + "\n"
    else:
        text = "\n".join(documents)
    if output is None:
        click.echo(text.encode("utf-8", "replace"), nl=False)
        return
    with disk_errors(output.absolute().parent, hint="Choose another file."):
        write_atomic(output, text)
    terminal.say(f"{counted(len(documents), 'conversation')} written to {output}.")


@command("delete")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--older-than", "days", type=click.IntRange(1, 36_500), metavar="DAYS", help="All that did not change.")
@click.option("--dry-run", is_flag=True, help="Show what would be deleted, and stop.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@database_options
def delete(
    terminal: Terminal, ids: tuple[str, ...], days: int | None, dry_run: bool, yes: bool, url: str | None
) -> None:
    """Delete conversations with their messages and images, also private ones."""
    if bool(ids) == (days is not None):
        raise UsageError(
            "name conversations, or give --older-than, and not both", hint="gpux conversations delete --older-than 90"
        )

    async def work(database: Database) -> list[Conversation]:
        every = await database.conversations.list()
        if days is None:
            by_id = {one.id: one for one in every}
            for id in ids:
                if id not in by_id:
                    await database.conversations.get(id)  # raises that it does not exist
            planned = [by_id[id] for id in dict.fromkeys(ids)]
        else:
            limit = datetime.now(UTC) - timedelta(days=days)
            planned = [one for one in every if one.updated_at < limit]
        _confirm(terminal, planned, dry_run=dry_run, yes=yes)
        if not dry_run:
            for one in planned:
                await database.conversations.delete(one.id)
        return planned

    planned = with_database(terminal, url, work)
    if terminal.as_json:
        terminal.data({"conversations": [one.to_dict() for one in planned], "deleted": bool(planned) and not dry_run})
    else:
        done = "to delete" if dry_run else "deleted"
        terminal.say(f"{counted(len(planned), 'conversation')} {done}.")


def _confirm(terminal: Terminal, planned: list[Conversation], *, dry_run: bool, yes: bool) -> None:
    """Show what is deleted, and ask.

    Raises:
        UsageError: the answer is no, or nobody can be asked.
    """
    if not planned:
        return
    if not terminal.as_json:
        _table(terminal, planned)
    if not dry_run and not terminal.confirm(f"Delete {counted(len(planned), 'conversation')}?", yes=yes):
        raise terminal.declined("nothing was deleted", "Add --yes.")


@command("usage")
@click.option("--days", type=click.IntRange(1, 36_500), default=30, show_default=True, help="The last days (UTC).")
@database_options
def usage(terminal: Terminal, days: int, url: str | None) -> None:
    """Show requests, failures, tokens and times of `gpux serve`'s chats, by day, chat provider and model."""
    since = datetime.now(UTC).date() - timedelta(days=days - 1)

    async def found(database: Database) -> list[UsageStats]:
        return await database.usage.list(since=since)

    listed = with_database(terminal, url, found)
    if terminal.as_json:
        terminal.data([one.to_dict() for one in listed])
    elif not listed:
        terminal.say(f"No message was answered in the last {days} days.")
    elif not sys.stdout.isatty():
        terminal.table(_USAGE, map(_usage_row, listed))
    else:
        terminal.table(_BRIEF_USAGE, map(_brief_usage, listed), right=range(2, len(_BRIEF_USAGE)), whole=0)


def _brief_usage(one: UsageStats) -> tuple[str, ...]:
    """Fewer columns for a terminal; the name of a model begins with the prefix of its provider."""
    day, _, model, requests, failures, prompt, answer, total, first = _usage_row(one)
    failed = f", {failures} failed" if one.failures else ""
    return day, model, f"{requests}{failed}", f"{prompt} + {answer}", total, first


def _usage_row(one: UsageStats) -> tuple[str, ...]:
    first = one.mean_first_token_ms
    return (
        *(one.day.isoformat(), one.provider, one.model_name),
        *(str(one.requests), str(one.failures), str(one.prompt_tokens), str(one.completion_tokens)),
        f"{one.total_ms / one.requests / 1000:.1f} s",
        "" if first is None else f"{first / 1000:.2f} s",
    )


@command("migrate", json_option=False)
@click.option("--to", "revision", required=True, metavar="REVISION", help="0001, 0002 …")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@database_options
def migrate(terminal: Terminal, revision: str, yes: bool, url: str | None) -> None:
    """Change the tables to another revision, so that an older gpux can use them; what it does not know is lost.

    Newer tables need no command: gpux migrates them when it opens the database.
    """
    from gpux.chat.database import migrate_database

    if not terminal.confirm("What the revision does not know is lost. Continue?", yes=yes):
        raise terminal.declined("nothing was changed", "Add --yes.")
    asyncio.run(migrate_database(database_url(terminal, url), terminal.settings, revision))
    terminal.say(f"The tables have revision {revision}.")


def _with_password(
    terminal: Terminal, url: str | None, file: Path | None, work: Callable[[Database, str | None], Awaitable[T]]
) -> T:
    """Call ``work`` with the database and the password of the file; where one is missing, ask for it on a terminal."""
    password = read_password(file)
    try:
        return with_database(terminal, url, lambda database: work(database, password))
    except ConversationAccessError as exc:
        if password is not None or not terminal.interactive:
            raise ConversationAccessError(exc.message, hint="Add --password-file FILE.", **exc.details) from exc
        terminal.say(str(exc))
    given = ask_password()
    return with_database(terminal, url, lambda database: work(database, given))


for _command in (list_conversations, show, export, delete, usage, migrate):
    conversations_command.add_command(_command)
