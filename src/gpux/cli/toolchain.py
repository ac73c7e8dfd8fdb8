"""``gpux toolchain``, and the offer to install a missing toolchain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gpux.cli import figures
from gpux.cli.terminal import CommandGroup, Terminal, command
from gpux.errors import GpuxError, ToolchainMissingError, UsageError

if TYPE_CHECKING:
    from gpux.convert.host.toolchain import Toolchain


def describe(toolchain: Toolchain) -> dict[str, Any]:
    """What ``--json`` prints of a toolchain, without running it."""
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
    """The versions of the main packages: the installed ones, else the required ones."""
    known = toolchain.versions() or toolchain.pins()
    return ", ".join(f"{name} {known[name]}" for name in toolchain.spec.packages if name in known)


def summary(toolchain: Toolchain) -> str:
    """The tasks that it converts for, the two of the most model types by name."""
    tasks = toolchain.converts()
    shown = [f"{task} ({count} model types)" for task, count in list(tasks.items())[:2]]
    rest = [f"{len(tasks) - 2} more tasks"] if len(tasks) > 2 else []
    return ", ".join(shown + rest)


def show_toolchain(terminal: Terminal, toolchain: Toolchain) -> None:
    """Print the required and the installed packages, then run the toolchain.

    Raises:
        ToolchainMissingError: it is not installed; the required packages were printed.
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
    terminal.say(f"It runs and has the installed versions; {figures.size(toolchain.size())} on disk.")


T = TypeVar("T")


def install_toolchain(terminal: Terminal, name: str, *, yes: bool) -> Toolchain:
    """Show the download, ask, and install; a toolchain that is ready is left as it is.

    Raises:
        UsageError: the answer was no, or standard input is not a terminal and ``yes`` is not set.
    """
    from gpux.convert.registry import find_toolchain

    toolchain = find_toolchain(name, terminal.settings)
    if toolchain.status() == "ready":
        terminal.say(f"The toolchain {name} is installed at {toolchain.path}.")
        return toolchain
    terminal.say(f"The toolchain {name} will be installed in {toolchain.path}.")
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
    unknown = f", and {len(report.unknown)} of unknown size" if report.unknown else ""
    terminal.say(
        f"pip would download {figures.size(report.download)} in {len(report.packages)} packages{unknown}; "
        f"the largest: {largest}."
    )


def with_toolchain(terminal: Terminal, action: Callable[[], T], *, yes: bool) -> T:
    """Run ``action``; if a toolchain is missing, offer to install that one and run ``action`` again.

    Raises:
        ToolchainMissingError: the offer cannot be made, since standard input is not a terminal and ``yes`` is not set.
    """
    try:
        return action()
    except ToolchainMissingError as exc:
        if not install_missing(terminal, [exc], yes=yes):
            raise
    return action()


def install_missing(terminal: Terminal, errors: Iterable[GpuxError | None], *, yes: bool) -> bool:
    """Install each toolchain that these errors name; False if they name none, or the session is not interactive."""
    missing = {str(exc.details["toolchain"]): exc for exc in errors if isinstance(exc, ToolchainMissingError)}
    if not missing or not (yes or terminal.interactive):
        return False
    for name, exc in missing.items():
        terminal.say(f"{exc.message}.")
        install_toolchain(terminal, name, yes=yes)
    return True


@click.group("toolchain", cls=CommandGroup)
def toolchain_command() -> None:
    """Manage the isolated environments that converters run in."""


@command("list")
def list_toolchains(terminal: Terminal) -> None:
    """List the toolchains, installed or not, and what each converts."""
    from gpux.convert.registry import toolchains

    found = list(toolchains(terminal.settings).values())
    if terminal.as_json:
        terminal.data([describe(toolchain) for toolchain in found])
        return
    terminal.table(("Toolchain", "Status", "Size", "Versions", "Converts"), [_row(one) for one in found], right=(2,))


def _row(toolchain: Toolchain) -> tuple[str, ...]:
    size = figures.size(toolchain.size()) if toolchain.path.is_dir() else ""
    return toolchain.name, toolchain.status(), size, main_versions(toolchain), summary(toolchain)


@command("install")
@click.argument("name", required=False)
@click.option("--yes", "-y", is_flag=True, help="Do not ask before the download.")
def install(terminal: Terminal, name: str | None, yes: bool) -> None:
    """Create the environment of a converter, after showing the download."""
    toolchain = install_toolchain(terminal, name or _first(terminal), yes=yes)
    if terminal.as_json:
        terminal.data(describe(toolchain))


@command("remove")
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def remove(terminal: Terminal, name: str, yes: bool) -> None:
    """Delete the environment of a converter; stored models keep working."""
    from gpux.convert.registry import find_toolchain

    plan = find_toolchain(name, terminal.settings).remove()
    if plan.size and not terminal.confirm(f"Remove {plan.path} ({figures.size(plan.size)})?", yes=yes):
        raise terminal.declined("nothing was removed", "Add --yes to remove without a question.")
    plan.execute()
    if terminal.as_json:
        terminal.data(plan.to_dict())
    else:
        terminal.say(f"{figures.size(plan.size)} freed.")


@command("show")
@click.argument("name", required=False)
def show(terminal: Terminal, name: str | None) -> None:
    """Show the packages of a toolchain and run it to check them."""
    from gpux.convert.registry import find_toolchain

    show_toolchain(terminal, find_toolchain(name or _first(terminal), terminal.settings))


def _first(terminal: Terminal) -> str:
    """The toolchain of the converter that is tried first."""
    from gpux.convert.registry import toolchains

    return next(iter(toolchains(terminal.settings)))


for _command in (list_toolchains, install, remove, show):
    toolchain_command.add_command(_command)
