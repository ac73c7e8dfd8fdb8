"""``gpux toolchain``, and the offer to install a missing toolchain."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gpux.cli import figures
from gpux.cli.terminal import Terminal, command
from gpux.errors import ToolchainMissingError, UsageError

if TYPE_CHECKING:
    from gpux.convert.host.toolchain import Toolchain

#: Of each toolchain, what tells one from another at a glance.
_MAIN = ("optimum-onnx", "mobius-onnx", "transformers", "torch")


def describe(toolchain: Toolchain) -> dict[str, Any]:
    """What ``--json`` says of a toolchain; nothing of it is run."""
    return {
        "name": toolchain.name,
        "status": toolchain.status(),
        "path": str(toolchain.path),
        "size": toolchain.size() if toolchain.path.is_dir() else 0,
        "versions": toolchain.versions(),
        "requirements": toolchain.pins(),
        "converts": toolchain.converts(),
    }


def main_versions(toolchain: Toolchain) -> str:
    """The versions that matter most: the installed ones, else those that would be installed."""
    known = toolchain.versions() or toolchain.pins()
    return ", ".join(f"{name} {known[name]}" for name in _MAIN if name in known)


def summary(toolchain: Toolchain) -> str:
    """What it converts, in a few words."""
    tasks = toolchain.converts()
    shown = [f"{task} ({count} model types)" for task, count in list(tasks.items())[:2]]
    rest = [f"{len(tasks) - 2} more tasks"] if len(tasks) > 2 else []
    return ", ".join(shown + rest)


def show_toolchain(terminal: Terminal, toolchain: Toolchain) -> None:
    """Print what is required and what is installed, then run it.

    Raises:
        ToolchainMissingError: it is not installed; what would be was printed.
        ToolchainError: it is damaged.
    """
    if terminal.as_json:
        terminal.data({**describe(toolchain), "versions": toolchain.integrity()})
        return
    installed = toolchain.versions()
    packages = {**dict.fromkeys(installed, ""), **toolchain.pins()}
    terminal.say(f"{toolchain.name} is {toolchain.status()}: {toolchain.path}")
    terminal.say(f"It converts for {', '.join(toolchain.converts())}.")
    rows = [(name, packages[name], installed.get(name, "")) for name in sorted(packages, key=str.lower)]
    terminal.table(("Package", "Required", "Imported as"), rows)
    toolchain.integrity()
    terminal.say(f"It runs, and nothing was changed; {figures.size(toolchain.size())} on disk.")


T = TypeVar("T")


def install_toolchain(terminal: Terminal, name: str, *, yes: bool) -> Toolchain:
    """Install unless it is there; the download is shown and asked for first.

    Raises:
        UsageError: the answer was no, or there is nobody to ask and no ``--yes``.
    """
    from gpux.convert.host.toolchain import Toolchain

    toolchain = Toolchain(name, terminal.settings)
    if toolchain.status() == "ready":
        terminal.say(f"The toolchain {name} is installed at {toolchain.path}.")
        return toolchain
    terminal.say(f"The toolchain {name} goes to {toolchain.path}.")
    _show_download(terminal, toolchain)
    if not terminal.confirm("Download and install it?", yes=yes):
        raise UsageError(
            f"the toolchain {name} was not installed", hint=f"Install it with `gpux toolchain install {name} --yes`."
        )
    with terminal.progress() as progress:
        toolchain.install(progress)
    terminal.say(f"Installed: {figures.size(toolchain.size())} on disk.")
    return toolchain


def _show_download(terminal: Terminal, toolchain: Toolchain) -> None:
    report = toolchain.size_report()
    largest = ", ".join(f"{p.name} {p.version} ({figures.size(p.bytes)})" for p in report.largest[:3])
    unknown = f", and {len(report.unknown)} of a size that the index does not tell" if report.unknown else ""
    terminal.say(
        f"pip would download {figures.size(report.download)} in {len(report.packages)} packages{unknown}; "
        f"the largest: {largest}."
    )


def with_toolchain(terminal: Terminal, action: Callable[[], T], *, yes: bool) -> T:
    """Run ``action``; if a toolchain is missing and someone can say yes, install it and run ``action`` again."""
    try:
        return action()
    except ToolchainMissingError as exc:
        if not (yes or terminal.interactive):
            raise
        terminal.say(f"{exc.message}.")
        install_toolchain(terminal, str(exc.details.get("toolchain", "optimum")), yes=yes)
    return action()


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
    from gpux.convert.host.toolchain import Toolchain

    show_toolchain(terminal, Toolchain(name, terminal.settings))


for _command in (list_toolchains, install, remove, show):
    toolchain_command.add_command(_command)
