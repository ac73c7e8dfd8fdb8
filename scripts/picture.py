"""Draw the terminal output of a real run of the demo: ``./dev picture`` writes docs/images/demo.svg.

The demo runs in a pseudo-terminal, so that it prints colors and progress bars; pyte, a terminal emulator, renders the
final screen, and rich exports it as SVG.
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
_ANSI = {"brown": "yellow", "default": None}  # pyte's names for ANSI color 3 and for the default color


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
    """Run a command in a pseudo-terminal and feed its output to ``stream``; returns the exit code."""
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
    except OSError:  # Linux raises EIO when the other side is closed
        return b""


def draw(screen: pyte.Screen, target: Path) -> None:
    """The screen's lines, with their colors, as SVG."""
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"), force_terminal=True)  # noqa: SIM115
    last = max(number for number, line in enumerate(screen.display) if line.strip())
    for number in range(last + 1):
        line = screen.buffer[number]
        text = Text()
        for style, cells in groupby((line[column] for column in range(COLUMNS)), key=_style):
            text.append("".join(cell.data for cell in cells), style)
        text.rstrip()
        console.print(text)
    console.save_svg(str(target), title="./dev demo")


def _style(char: Char) -> Style:
    color = _ANSI.get(char.fg, char.fg)
    if color and len(color) == 6 and all(digit in "0123456789abcdef" for digit in color):
        color = f"#{color}"
    elif color:
        color = color.replace("bright", "bright_")
    return Style(color=color, bold=char.bold)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
