"""``gpux toolchain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpux.cli import figures
from gpux.cli.environments import describe, main_versions, summary
from gpux.cli.installing import install_toolchain
from gpux.cli.terminal import Terminal, command
from gpux.errors import UsageError

if TYPE_CHECKING:
    from gpux.convert.host.toolchain import Toolchain


@click.group("toolchain")
def toolchain_command() -> None:
    """Manage the isolated environments that converters run in."""


@command("list")
def list_toolchains(terminal: Terminal) -> None:
    """List the toolchains, installed or not, and what each converts."""
    from gpux.convert.host.toolchain import Toolchain, toolchain_names

    found = [Toolchain(name, terminal.settings) for name in toolchain_names()]
    if terminal.as_json:
        terminal.data([describe(toolchain) for toolchain in found])
        return
    terminal.table(("Toolchain", "Status", "Size", "Versions", "Converts"), [_row(one) for one in found], right=(2,))


def _row(toolchain: Toolchain) -> tuple[str, ...]:
    size = figures.size(toolchain.size()) if toolchain.path.is_dir() else ""
    return toolchain.name, toolchain.status(), size, main_versions(toolchain), summary(toolchain)


@command("install")
@click.argument("name", default="optimum")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before the download.")
def install(terminal: Terminal, name: str, yes: bool) -> None:
    """Make the environment of a converter, after showing what it downloads."""
    toolchain = install_toolchain(terminal, name, yes=yes)
    if terminal.as_json:
        terminal.data(describe(toolchain))


@command("remove")
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def remove(terminal: Terminal, name: str, yes: bool) -> None:
    """Delete the environment of a converter; stored models keep working."""
    from gpux.convert.host.toolchain import Toolchain

    plan = Toolchain(name, terminal.settings).remove()
    if plan.size and not terminal.confirm(f"Remove {plan.path} ({figures.size(plan.size)})?", yes=yes):
        raise UsageError("nothing was removed", hint="Add --yes to remove without a question.")
    plan.execute()
    if terminal.as_json:
        terminal.data(plan.to_dict())
    else:
        terminal.say(f"{figures.size(plan.size)} freed.")


@command("show")
@click.argument("name", default="optimum")
def show(terminal: Terminal, name: str) -> None:
    """Show a toolchain: what it is made of, and, by running it, whether it is intact."""
    from gpux.cli.environments import show_toolchain
    from gpux.convert.host.toolchain import Toolchain

    show_toolchain(terminal, Toolchain(name, terminal.settings))


for _command in (list_toolchains, install, remove, show):
    toolchain_command.add_command(_command)
