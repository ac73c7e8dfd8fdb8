"""Options of generation, and a text that is printed while it is written."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from gpux.cancel import CancelToken
from gpux.cli.terminal import Terminal
from gpux.errors import UsageError

if TYPE_CHECKING:
    from gpux.pipelines.generation import GenerationPipeline
    from gpux.runtime.generation.results import Generation

_OPTIONS = (
    click.option("--max-new-tokens", type=int, help="Tokens that are written at most; 256."),
    click.option("--temperature", type=float, help="Sample; below 1 likelier words become likelier still."),
    click.option("--top-p", type=float, help="Sample among the likeliest words of this probability together."),
    click.option("--top-k", type=int, help="Sample among so many of the likeliest words."),
    click.option("--seed", type=int, help="Sample; the same seed writes the same text."),
    click.option("--stop", multiple=True, help="A text that ends the answer and is not part of it; may be repeated."),
    click.option(
        "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any other option of the task, as JSON."
    ),
)


def generation_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of generation to a command; its function gets them by name, see :func:`chosen_options`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def chosen_options(assignments: tuple[str, ...], **options: Any) -> dict[str, Any]:
    """What was typed, by name: None and an empty tuple stand for nothing.

    Raises:
        UsageError: an assignment without ``=``.
    """
    found = {name: value for name, value in options.items() if value not in (None, ())}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment} has no value", hint="Write it as --set num_beams=4.")
        found[name.replace("-", "_")] = _value(text)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def print_text(terminal: Terminal, pipe: GenerationPipeline, text: str, *, before: str = "") -> None:
    """Print what the model writes to one text as it comes; Ctrl-C ends the text, and what was written stays."""
    with stopped_by_interrupt() as cancel, pipe.stream(text, cancel=cancel) as stream:
        click.echo(before, nl=False)
        for piece in stream:
            click.echo(piece, nl=False)
    click.echo()
    terminal.say(summary(stream.result))


def summary(result: Generation) -> str:
    """Tokens, speed and why it ended, in one line."""
    seconds = result.timings.decode
    speed = f", {result.timings.steps / seconds:.0f} tokens/s" if result.timings.steps and seconds else ""
    return (
        f"{len(result.tokens)} tokens{speed}, first after {result.timings.prefill:.2f} s, {_ENDS[result.finish_reason]}"
    )


_ENDS = {
    "eos": "ended by the model",
    "stop": "ended by a stop text",
    "length": "ended by its length",
    "deadline": "ended by the deadline",
    "cancelled": "stopped",
}


@contextmanager
def stopped_by_interrupt() -> Iterator[CancelToken]:
    """A token that Ctrl-C sets, instead of ending the program."""
    cancel = CancelToken()
    if threading.current_thread() is not threading.main_thread():
        yield cancel
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: cancel.cancel())
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)
