"""Display of progress events: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from gpux.system.progress import BytesAdvanced, Event, StageFinished, StageStarted, Warned


class ProgressDisplay:
    """A callback for ``progress=`` and a context manager: draws on ``console``, and clears its bars at the end."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live = self._console.is_terminal
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def __call__(self, event: Event) -> None:
        """Draw one event; events of one thread at a time."""
        match event:
            case StageStarted():
                self._start(event)
            case BytesAdvanced():
                self._advance(event)
            case StageFinished(message=""):  # a part of a stage
                self._stop()
            case StageFinished():
                self._stop()
                took = f" [dim]({event.seconds:.1f} s)[/]" if event.seconds >= 0.05 else ""
                self._console.print(
                    f"[green]✓[/] {escape(event.message)}{took}", highlight=False, soft_wrap=not self._live
                )
            case Warned():
                self._console.print(f"[yellow]![/] {escape(event.message)}", highlight=False, soft_wrap=not self._live)

    def _start(self, event: StageStarted) -> None:
        self._stop()
        if not self._live:
            return
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), console=self._console, transient=True
        )
        self._progress.start()
        self._task = self._progress.add_task(escape(event.message), total=None)

    def _advance(self, event: BytesAdvanced) -> None:
        if self._progress is None or self._task is None:
            return
        if len(self._progress.columns) == 2:  # the stage turns out to have bytes to count
            self._progress.columns = (
                *self._progress.columns,
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
            )
        self._progress.update(self._task, completed=event.done, total=event.total or None)

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._task = None


class PullsDisplay:
    """Several pulls on one display: a live line for each stage on a terminal, labelled lines elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live = self._console.is_terminal
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        self._progress = Progress(*columns, console=self._console, transient=True, disable=not self._live)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> PullsDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, label: str, event: Event) -> None:
        """Draw one event of the pull of that name; safe to call from several threads."""
        if label not in self._tasks:
            self._tasks[label] = self._progress.add_task(escape(label), total=None)
        task = self._tasks[label]
        match event:
            case StageStarted():
                description = f"{escape(label)}: {escape(event.message)}"
                self._progress.update(task, description=description, total=None, visible=True)
            case BytesAdvanced():
                self._progress.update(task, completed=event.done, total=event.total or None)
            case StageFinished():
                self._progress.update(task, visible=False)  # until the next stage of this pull
                if event.stage == "store":
                    self._print("[green]✓[/]", label, event.message)
            case Warned():
                self._print("[yellow]![/]", label, event.message)

    def _print(self, mark: str, label: str, message: str) -> None:
        text = f"{mark} {escape(label)}: {escape(message)}"
        self._progress.console.print(text, highlight=False, soft_wrap=not self._live)


class _RateColumn(ProgressColumn):
    """Rows per second of the last half minute."""

    def __init__(self, noun: str) -> None:
        super().__init__()
        self._noun = noun

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(
            "" if speed is None else f"{speed:,.{1 if speed < 100 else 0}f} {self._noun}/s",
            style="progress.data.speed",
        )


class RowsDisplay:
    """Rows or requests that are answered: a bar with their number, rate, remaining time and failures."""

    def __init__(self, console: Console, total: int | None, noun: str = "rows") -> None:
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            _RateColumn(noun),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
        )
        self._total = total
        self._task: TaskID | None = None

    def __enter__(self) -> RowsDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, done: int, failed: int) -> None:
        """Show that so many rows are done, of which so many failed; the first call is the state at the beginning."""
        if self._task is None:  # rows of an earlier run do not count in the rate
            self._task = self._progress.add_task("", total=self._total, completed=done)
        self._progress.update(self._task, completed=done, description=f"[red]{failed:,} failed[/]" if failed else "")
