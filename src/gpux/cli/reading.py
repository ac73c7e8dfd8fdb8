"""Lines that a person types, or that come through a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import suppress

import click

from gpux.cli.terminal import Terminal
from gpux.errors import UsageError

_QUOTES = '"""'


class Lines:
    """Messages from standard input.

    Args:
        terminal: prompts go to stdout where that is a terminal, else to stderr, so that data stays data.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        #: a person is there to type
        self.interactive = sys.stdin is not None and sys.stdin.isatty()
        self._readline = None
        if self.interactive:
            with suppress(ImportError):  # Windows has none; lines can be typed all the same
                import readline

                self._readline = readline  # from now on input() has a history, in memory only
        self._begun = False

    @property
    def begun(self) -> bool:
        """Whether something had been typed when reading was interrupted."""
        return self._begun or bool(self._readline and self._readline.get_line_buffer().strip())

    def read(self) -> str:
        """The next message: a line, the lines that a backslash joins, or those between three quotes.

        Raises:
            EOFError: nothing more comes.
            KeyboardInterrupt: Ctrl-C was typed.
        """
        self._begun = False
        line = self._line(">>> ")
        if line.lstrip().startswith(_QUOTES):
            return self._block(line.lstrip()[len(_QUOTES) :])
        found = [line]
        while found[-1].endswith("\\"):
            self._begun = True
            found[-1] = found[-1][:-1]
            found.append(self._line("... "))
        return "\n".join(found)

    def _block(self, line: str) -> str:
        self._begun = True
        found = [line]
        while not found[-1].rstrip().endswith(_QUOTES):
            found.append(self._line("... "))
        found[-1] = found[-1].rstrip()[: -len(_QUOTES)]
        return "\n".join(found).strip("\n")

    def _line(self, prompt: str) -> str:
        if sys.stdout.isatty():
            return input(prompt)
        click.echo(prompt, nl=False, err=True)
        return input()

    def piped(self) -> Iterator[str]:
        """Each line that is not empty.

        Raises:
            UsageError: standard input is closed.
        """
        if sys.stdin is None:
            raise UsageError(
                "there is nothing to read messages from", hint="Type them, or send them: echo Hello | gpux chat …"
            )
        if isinstance(sys.stdin, io.TextIOWrapper):  # bytes of another encoding reach the check that names the message
            sys.stdin.reconfigure(errors="surrogateescape")
        for line in sys.stdin:
            if text := line.strip("\r\n"):
                yield text
