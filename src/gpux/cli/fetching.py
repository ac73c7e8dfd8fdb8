"""Choosing files for ``gpux pull``: the options, and a pull of files as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from gpux.cli import figures
from gpux.cli.terminal import Terminal
from gpux.inspect.formats import FORMATS, Selection
from gpux.model.reference import ModelRef


@dataclass(frozen=True)
class Choice:
    """What the options say; a :class:`Selection` for one reference."""

    format: str | None
    precision: str | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    everything: bool

    def wants_files(self, ref: ModelRef) -> bool:
        """True when files of this model are wanted as they are, not a runnable model."""
        return bool(self.format or self.include or self.exclude or self.everything or ref.file)

    def selection(self, ref: ModelRef) -> Selection:
        """What to bring of one model."""
        return Selection(self.format, self.precision, self.include, self.exclude, self.everything, ref.file)


_OPTIONS = (
    click.option("--format", type=click.Choice(list(FORMATS)), help="Bring weights in this format, as they are."),
    click.option("--precision", help="fp16, int8, int4, auto …: shipped, or made from fp32; with --format, of files."),
    click.option("--include", multiple=True, help="Bring exactly the files that match, e.g. 'Model.mlpackage/**'."),
    click.option("--exclude", multiple=True, help="Bring all but the files that match."),
    click.option("--all", "everything", is_flag=True, help="Bring every file, in every format."),
)


def choice_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options, and hand them over as one ``choice``."""

    def gathered(*args: Any, **options: Any) -> Any:
        names = ("format", "precision", "include", "exclude", "everything")
        return function(*args, choice=Choice(**{name: options.pop(name) for name in names}), **options)

    gathered.__doc__ = function.__doc__
    gathered.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    decorated: Callable[..., Any] = gathered
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def fetch_files(terminal: Terminal, ref: ModelRef, choice: Choice, *, ignore_disk_space: bool) -> dict[str, Any]:
    """Bring files of one model, and print where they are; what ``--json`` says of them."""
    from gpux.managers.registry import manager_for
    from gpux.pull.files import place_of, pull_files

    manager = manager_for(ref.scheme, terminal.settings)
    with terminal.progress() as progress:
        snapshot = pull_files(
            ref, manager, choice.selection(ref), ignore_disk_space=ignore_disk_space, progress=progress
        )
    place = str(place_of(snapshot))
    if not terminal.as_json:
        if snapshot.report is not None and snapshot.report.received:
            terminal.say(figures.transfer(snapshot.report))
        terminal.line(place)
    transfer = snapshot.report.to_dict() if snapshot.report else None
    files = {"path": str(snapshot.path), "files": list(snapshot.files), "id": snapshot.info.id}
    return {"ref": str(ref), "place": place, **files, "commit": snapshot.info.commit, "transfer": transfer}
