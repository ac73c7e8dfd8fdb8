"""``gpux auth``."""

from __future__ import annotations

import sys

import click

from gpux.cli.terminal import CommandGroup, Terminal, command
from gpux.errors import UsageError

_LONGEST = 4096  # bytes read from standard input


@click.group("auth", cls=CommandGroup)
def auth_command() -> None:
    """Log in to the Hub, log out, show the account in use. The token file is shared with other Hugging Face tools."""


@command("login")
@click.argument("refused", nargs=-1, metavar="")
@click.option("--keyring", is_flag=True, help="Store it in the system's key store, which only gpux reads.")
def login_command(terminal: Terminal, refused: tuple[str, ...], keyring: bool) -> None:
    """Save a token that is typed or read from standard input.

    It is not shown while typed, and saved only if the Hub accepts it.
    """
    from gpux.huggingface import auth as tokens

    if refused:  # click would print the token in its message
        raise UsageError(
            "a token cannot be an argument, where other users could read it", hint="Try `gpux auth login < file`."
        )
    kept = tokens.login(_read_token(), terminal.settings, keyring=keyring)
    if terminal.as_json:
        terminal.data(kept.to_dict())
    elif kept.account:
        terminal.say(f"Logged in as {kept.account.name}; the token is in {kept.place}.")
    if kept.overridden_by:
        terminal.say(f"! {kept.overridden_by} is set and takes precedence.")


@command("logout")
def logout_command(terminal: Terminal) -> None:
    """Remove the token from the token file and from the key store."""
    from gpux.huggingface import auth as tokens

    done = tokens.logout(terminal.settings)
    if terminal.as_json:
        terminal.data(done.to_dict())
    else:
        terminal.say(f"Removed the token from {' and '.join(done.removed)}." if done.removed else "Nothing to remove.")
    if done.still_set:
        terminal.say(f"! {done.still_set} is set and still provides a token: unset it.")
    if done.other_tokens:
        terminal.say(f"! {done.other_tokens} holds tokens that `hf auth login` saved; `hf auth logout` removes them.")


@command("status")
def status_command(terminal: Terminal) -> None:
    """Show the account of the token in use, and where the token is stored."""
    from gpux.huggingface import auth as tokens

    found = tokens.status(terminal.settings)
    if terminal.as_json:
        terminal.data(found.to_dict())
        return
    account, facts = found.account, {"token from": f"{found.place} ({found.source})"}
    if account is not None:
        facts = {"user": account.name, "organizations": " ".join(account.orgs), "role": account.role or "", **facts}
    facts |= {"token's name": account.token_name or "" if account else "", "not used": ", ".join(found.unused)}
    terminal.table(("", ""), [(name, value) for name, value in facts.items() if value])


def _read_token() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Token (it is not shown)", hide_input=True, err=True))
    return sys.stdin.buffer.read(_LONGEST).decode("utf-8-sig", "replace")


for _command in (login_command, logout_command, status_command):
    auth_command.add_command(_command)
