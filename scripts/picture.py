"""Draw a terminal in which the demo really ran: ``nox -s picture`` writes docs/images/demo.svg.

The demo runs behind a pseudo-terminal, so it draws colours and bars as for a person; pyte, a terminal in memory, turns
that into the screen it leaves behind, and rich into SVG.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pyte
from pyte.screens import Char
from rich.console import Console
from rich.style import Style
from rich.text import Text

COLUMNS, LINES = 114, 60
_ANSI = {"brown": "yellow", "default": None}  # pyte's name for ANSI colour 3, and its word for none


def main(arguments: list[str]) -> int:
    """Run the demo and write the picture."""
    target = Path(arguments[0])
    screen = pyte.Screen(COLUMNS, LINES)
    code = run([sys.executable, "-m", "scripts.demo"], pyte.ByteStream(screen))
    if code == 0:
        target.parent.mkdir(parents=True, exist_ok=True)
        draw(screen, target)
        print(f"written: {target}")
    return code


def run(command: list[str], stream: pyte.ByteStream) -> int:
    """Run a command behind a pseudo-terminal and feed what it prints to ``stream``; its exit code."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    env.pop("NO_COLOR", None)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        while chunk := _read(ours):
            stream.feed(chunk)
    os.close(ours)
    return process.returncode


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says EIO when the other side is closed
        return b""


def draw(screen: pyte.Screen, target: Path) -> None:
    """The screen's lines, with their colours, as SVG."""
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"), force_terminal=True)  # noqa: SIM115
    last = max(number for number, line in enumerate(screen.display) if line.strip())
    for number in range(last + 1):
        line = screen.buffer[number]
        text = Text()
        for style, cells in groupby((line[column] for column in range(COLUMNS)), key=_style):
            text.append("".join(cell.data for cell in cells), style)
        text.rstrip()
        console.print(text)
    console.save_svg(str(target), title="nox -s demo")


def _style(char: Char) -> Style:
    colour = _ANSI.get(char.fg, char.fg)
    if colour and len(colour) == 6 and all(digit in "0123456789abcdef" for digit in colour):
        colour = f"#{colour}"
    elif colour:
        colour = colour.replace("bright", "bright_")
    return Style(color=colour, bold=char.bold)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
