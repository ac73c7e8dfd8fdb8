"""Generation options of commands, and printing a text while it is generated."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from gpux.cli.terminal import Terminal
from gpux.errors import UsageError
from gpux.runtime.generation.options import OptionInfo, option_infos
from gpux.system.cancel import CancelToken

if TYPE_CHECKING:
    from gpux.pipelines.generation.base import GenerationPipeline
    from gpux.runtime.generation.results import Generation

#: Seconds after the first Ctrl-C from which a second one ends the program.
_SECOND_INTERRUPT = 2.0
#: Control characters other than newline and tab, which must not reach a terminal.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_TYPES = {"integer": int, "number": float}


def generation_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the generation options to a command; see :func:`chosen_options`."""
    function = click.option(
        "--option", "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any other option of the task."
    )(function)
    for info in reversed(list(option_infos().values())):
        if info.flag:
            function = _flag(info)(function)
    return function


def _flag(info: OptionInfo) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option of the command line for one generation option."""
    name, text = f"--{info.name.replace('_', '-')}", f"{info.help[0].upper()}{info.help[1:]}"
    kind = _TYPES.get(info.schema["type"])
    if kind is None:
        return click.option(name, multiple=True, help=f"{text}; may be repeated.")
    return click.option(name, type=kind, help=f"{text}.")


def chosen_options(assignments: tuple[str, ...], **options: Any) -> dict[str, Any]:
    """The options that were given, by name.

    Raises:
        UsageError: an assignment without ``=``.
    """
    found = {name: value for name, value in options.items() if value not in (None, ())}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--option {assignment} has no value", hint="Write it as --option num_beams=4.")
        found[name.replace("-", "_")] = _value(text)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def print_text(terminal: Terminal, pipe: GenerationPipeline, text: str) -> None:
    """Print the generated text for one input as it arrives; Ctrl-C stops it."""
    cancel = CancelToken()
    with stopped_by_interrupt(cancel), pipe.stream(text, cancel=cancel) as stream:
        print_piece(pipe.opening(text))
        for piece in stream:
            print_piece(piece)
    click.echo()
    terminal.say(described(stream.result))


def print_piece(piece: str) -> None:
    """Print a part of a text: without control characters on a terminal, unchanged elsewhere."""
    click.echo(printable(piece), nl=False, color=True)  # without it click would remove escape sequences from a pipe


def printable(text: str) -> str:
    """The text for standard output: without control characters on a terminal, unchanged elsewhere."""
    return _CONTROLS.sub("", text) if sys.stdout.isatty() else text


def figures(result: Generation) -> dict[str, Any]:
    """Figures of an answer as JSON-able values: seconds, and tokens per second after the first token."""
    timings = result.timings
    return {
        "finish_reason": result.finish_reason,
        "prompt_tokens": result.prompt_tokens,
        "reused_tokens": timings.reused_tokens,
        "tokens": len(result.tokens),
        "first_token": round(timings.prefill, 4),
        "tokens_per_second": round(timings.steps / timings.decode, 2) if timings.decode else None,
    }


def described(result: Generation) -> str:
    """The figures of an answer in one line."""
    found = figures(result)
    speed = f" at {found['tokens_per_second']:.1f} per second" if found["tokens_per_second"] else ""
    kept = f", {found['reused_tokens']} of them reused" if found["reused_tokens"] else ""
    return (
        f"{found['tokens']} tokens{speed}, the first after {found['first_token']:.2f} s; "
        f"a prompt of {found['prompt_tokens']} tokens{kept}; ended by {found['finish_reason']}."
    )


@contextmanager
def stopped_by_interrupt(cancel: CancelToken, noted: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Within this context, Ctrl-C sets the token; a second one, two seconds later, ends the program.

    Args:
        cancel: the token to set.
        noted: called at the first Ctrl-C.
    """
    since = 0.0

    def stop(*_: object) -> None:
        nonlocal since
        if cancel.cancelled and time.monotonic() - since > _SECOND_INTERRUPT:
            raise KeyboardInterrupt
        if not cancel.cancelled:
            since = time.monotonic()
            noted()
            cancel.cancel()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
