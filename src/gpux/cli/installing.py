"""Installing a toolchain: show the size, ask, install; also when a command turns out to need one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from gpux.cli import figures
from gpux.cli.terminal import Terminal
from gpux.errors import ToolchainMissingError, UsageError

if TYPE_CHECKING:
    from gpux.convert.host.toolchain import Toolchain

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
