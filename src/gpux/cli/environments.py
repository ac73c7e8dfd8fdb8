"""How toolchains are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpux.cli import figures
from gpux.cli.terminal import Terminal

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
