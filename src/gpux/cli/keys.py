"""``gpux keys``: keys of `gpux serve`."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpux.cli.terminal import CommandGroup, Terminal, command
from gpux.errors import UsageError

if TYPE_CHECKING:
    from gpux.server.security.keys import Key

_UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_FILE = click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of keys; default: server-keys.json in GPUX_HOME.",
)


@click.group("keys", cls=CommandGroup)
def keys_command() -> None:
    """Create, list and revoke the keys that clients of `gpux serve --api-key-file` need."""


@command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["read", "infer", "manage"]),
    help="What the key allows: list and describe (read), run models (infer), load, pull and remove them (manage). "
    "Default: read and infer.",
)
@click.option("--expires", metavar="TIME", help="How long the key is valid: 12h, 30d, 8w.")
@_FILE
def create(terminal: Terminal, name: str, scopes: tuple[str, ...], expires: str | None, path: Path | None) -> None:
    """Create a key and print it, this once: the file has its hash only."""
    from gpux.server.security.keys import create_key

    path = path or _default(terminal)
    text, key = create_key(path, name, scopes=scopes or ("read", "infer"), expires=_time(expires))
    if terminal.as_json:
        terminal.data({**key.to_dict(), "key": text, "file": str(path)})
        return
    terminal.line(text)
    terminal.say(f"It is not shown again. Start the server with: gpux serve --api-key-file {path}")


@command("list")
@_FILE
def list_keys(terminal: Terminal, path: Path | None) -> None:
    """List the keys of a file."""
    from gpux.server.security.keys import read_keys

    found = read_keys(path or _default(terminal))
    if terminal.as_json:
        terminal.data([key.to_dict() for key in found])
    elif not found:
        terminal.say("There are no keys: `gpux keys create NAME`.")
    else:
        terminal.table(("Id", "Name", "Scopes", "Created", "Expires"), map(_row, found))


@command("revoke")
@click.argument("key")
@_FILE
def revoke(terminal: Terminal, key: str, path: Path | None) -> None:
    """Remove a key, by its id or name; a running server refuses it from then on."""
    from gpux.server.security.keys import revoke_key

    found = revoke_key(path or _default(terminal), key)
    if terminal.as_json:
        terminal.data(found.to_dict())
    else:
        terminal.say(f"Revoked {found.name} ({found.id}).")


def _default(terminal: Terminal) -> Path:
    from gpux.server.security.keys import FILE

    return terminal.settings.home / FILE


def _row(key: Key) -> tuple[str, ...]:
    expires = "" if key.expires is None else "expired" if key.expired() else _date(key.expires)
    return key.id, key.name, " ".join(key.scopes), _date(key.created), expires


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _time(text: str | None) -> int | None:
    if text is None:
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhdw])", text)
    if match is None:
        raise UsageError(f"{text!r} is not a duration", hint="Write a number and m, h, d or w: 30d.")
    return int(time.time()) + int(match[1]) * _UNITS[match[2]]


for _command in (create, list_keys, revoke):
    keys_command.add_command(_command)
