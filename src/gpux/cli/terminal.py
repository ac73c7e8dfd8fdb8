"""Shared by all commands: settings, data on stdout, remarks on stderr, the options ``--json --debug --quiet``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from gpux.errors import UsageError
from gpux.system.progress import Event, ProgressCallback, Warned, silent, waits_reported
from gpux.system.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod

Row = Sequence[str]
_LEAST = 32  #: columns of a terminal for the cells beside a name that is not broken


class Terminal:
    """Where a command prints; its first argument."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        """The settings of the environment, read on first use."""
        if self._settings is None:
            self._settings = Settings.from_env()
        return self._settings

    def override(self, **settings: Any) -> None:
        """Let options of the command override settings of the environment; None overrides nothing."""
        self._settings = self.settings.with_overrides(**settings)

    @property
    def arguments(self) -> list[str]:
        """The command-line arguments after ``gpux``."""
        return list((click.get_current_context().obj or {}).get("arguments", ()))

    @property
    def interactive(self) -> bool:
        """True where a question can be answered: stdin and stderr are terminals."""
        return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))

    def data(self, value: Any, *, compact: bool = False) -> None:
        """Print one JSON document on stdout; ``compact`` puts it on one line."""
        text = json.dumps(value, indent=None if compact else 2, ensure_ascii=False)
        click.echo(text.encode("utf-8", "replace").decode())  # a lone surrogate cannot be encoded

    def line(self, text: str) -> None:
        """Print one line of data on stdout."""
        click.echo(text)

    def say(self, text: str) -> None:
        """Print a remark on stderr, unless ``--quiet``."""
        if not self.quiet:
            click.echo(text, err=True)

    def report_wait(self, event: Event) -> None:
        """Print that a request waits for the Hub; commands with a progress display show it there."""
        if isinstance(event, Warned):
            self.say(f"! {event.message}")

    def warn(self, message: str, hint: str | None = None) -> None:
        """Print an error that does not end the command: on stderr, also with ``--quiet``."""
        click.echo(click.style("error: ", fg="red", bold=True) + message, err=True)
        if hint:
            click.echo(click.style("  → ", fg="cyan") + hint, err=True)

    def table(
        self,
        header: Row,
        rows: Iterable[Row],
        *,
        title: str | None = None,
        right: Sequence[int] = (),
        whole: int | None = None,
        follows: bool = False,
    ) -> None:
        """Print a table on a terminal, tab-separated lines in a pipe.

        Args:
            header: names of the columns; if all are empty, the table has no header.
            rows: cells.
            title: shown above the table.
            right: indices of the columns to align right.
            whole: index of a column with names, which is not broken while the others keep :data:`_LEAST` columns.
            follows: the table stands below another one, whose last line is blank.
        """
        if not sys.stdout.isatty():
            for row in rows:
                click.echo("\t".join(row))
            return
        from rich.box import SIMPLE_HEAD
        from rich.markup import escape
        from rich.padding import Padding
        from rich.table import Table

        table = Table(
            title=title,
            show_edge=not follows,  # with edges, the first line is blank too
            box=SIMPLE_HEAD,
            title_justify="left",
            show_header=any(header),
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        cells, console = list(rows), self.console()
        widths = _widths([header, *cells], console.width, right, whole)
        for index, (name, width) in enumerate(zip(header, widths, strict=True)):
            justify: JustifyMethod = "right" if index in right else "left"
            table.add_column(name, justify=justify, overflow="fold", width=width)
        for row in cells:
            table.add_row(*map(escape, row))
        console.print(Padding(table, (0, 1, 1, 1), expand=False) if follows else table)

    def console(self, *, stderr: bool = False) -> Console:
        """A rich console."""
        from rich.console import Console

        return Console(stderr=stderr)

    def progress(self) -> AbstractContextManager[ProgressCallback]:
        """A progress callback for a long call: silent with ``--quiet``, a file of events in a background job."""
        if self.settings.job_events is not None:
            from gpux.jobs.events import EventLog

            return EventLog(self.settings.job_events)
        if self.quiet:
            return nullcontext(silent)
        return _ProgressWhenNeeded(self)

    @contextmanager
    def labelled_progress(self) -> Iterator[Callable[[str, Event], None]]:
        """The same for several pulls at once; the callback gets the reference with each event, from any thread."""
        if self.settings.job_events is not None:
            from gpux.jobs.events import EventLog

            with EventLog(self.settings.job_events) as log:
                yield log.labelled
        elif self.quiet:
            yield lambda label, event: None
        else:
            from gpux.system.progress_display import PullsDisplay

            with PullsDisplay(self.console(stderr=True)) as display:
                yield display

    @contextmanager
    def rows_progress(self, total: int | None, noun: str = "rows") -> Iterator[Callable[[int, int], None]]:
        """A callback with the number of rows that are done, and of those that failed: a bar on a terminal.

        Args:
            total: number of rows; None: unknown.
            noun: what they are, in the plural.
        """
        if self.quiet or not self.console(stderr=True).is_terminal:
            yield lambda done, failed: None
            return
        from gpux.system.progress_display import RowsDisplay

        with RowsDisplay(self.console(stderr=True), total, noun) as display:
            yield display

    def confirm(self, question: str, *, yes: bool) -> bool:
        """Ask a question on a terminal; without one, the answer is ``yes``."""
        return yes or (self.interactive and click.confirm(question, err=True))

    def declined(self, message: str, hint: str) -> UsageError:
        """The error after :meth:`confirm` returned False; the hint is for a caller who could not be asked."""
        return UsageError(message, hint=None if self.interactive else hint)


class _ProgressWhenNeeded:
    """The progress display, which imports rich, from the first event on: opening a stored model has none."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._open = ExitStack()
        self._display: ProgressCallback | None = None

    def __enter__(self) -> ProgressCallback:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, exc, trace)

    def __call__(self, event: Event) -> None:
        if self._display is None:
            from gpux.system.progress_display import ProgressDisplay

            self._display = self._open.enter_context(ProgressDisplay(self._terminal.console(stderr=True)))
        self._display(event)


class CommandGroup(click.Group):
    """A group whose help has the first sentence about each command whole; click cuts it at one line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands."""
        commands = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(limit=1000)) for name, one in commands])


def command(
    name: str, *, json_option: bool = True, kind: type[click.Command] = click.Command
) -> Callable[[Callable[..., Any]], click.Command]:
    """A ``click`` command with the shared options; its function gets a :class:`Terminal` as first argument."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        def invoke(as_json: bool, debug: bool, quiet: bool, **options: Any) -> Any:
            inherited = click.get_current_context().obj or {}
            as_json, quiet = as_json or inherited.get("json", False), quiet or inherited.get("quiet", False)
            terminal = Terminal(as_json=as_json, quiet=quiet)
            with waits_reported(terminal.report_wait):
                return function(terminal, **options)

        made = click.command(name, kind, help=function.__doc__)(_with_parameters_of(function, invoke))
        made.params += _shared_options(json_option)
        return made

    return decorate


def _with_parameters_of(function: Callable[..., Any], invoke: Callable[..., Any]) -> Callable[..., Any]:
    """Copy the parameters that ``@click.option`` and ``@click.argument`` attached to the function."""
    invoke.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    return invoke


def _shared_options(json_option: bool) -> list[click.Parameter]:
    shared: list[click.Parameter] = [
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document.", hidden=not json_option),
        click.Option(["--debug"], is_flag=True, help="Show the traceback of an error."),
        click.Option(["--quiet", "-q"], is_flag=True, help="Print only data and errors."),
    ]
    return shared


def _widths(rows: Sequence[Row], columns: int, right: Sequence[int], whole: int | None) -> list[int | None]:
    """The width of each column of a table; None: rich chooses it.

    Rich breaks words of one column while another has room, and with ``min_width`` cuts off what does not fit.

    Args:
        rows: header and cells.
        columns: of the terminal.
        right: indices of the columns with quantities, which are not broken between number and unit.
        whole: index of the column that is broken last.
    """
    lines = [[line for cell in column for line in cell.split("\n")] for column in zip(*rows, strict=True)]
    natural = [max(map(len, column)) for column in lines]
    room = columns - 2 * len(natural)  # between the columns, and one on each side
    if sum(natural) <= room:
        return [None] * len(natural)
    least = [max((len(word) for line in column for word in line.split()), default=0) for column in lines]
    for index in right if whole is None else (*right, whole):
        least[index] = natural[index]
    if sum(least) > room:
        return [min(natural[i], columns - _LEAST) if i == whole else None for i in range(len(natural))]
    widths, spare = list(least), room - sum(least)
    by_need = sorted(range(len(natural)), key=lambda index: natural[index] - least[index])
    for place, index in enumerate(by_need):
        more = min(natural[index] - least[index], spare // (len(by_need) - place))
        widths[index] += more
        spare -= more
    return [width or None for width in widths]
