"""Options of generation, and a text that is printed while it is written."""

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

#: Seconds after which a further Ctrl-C no longer waits for an answer to stop.
_PATIENCE = 2.0
#: What a model's text must not do to a terminal: control characters other than a new line and a tab.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_TYPES = {"integer": int, "number": float}


def generation_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of generation to a command; its function gets them by name, see :func:`chosen_options`."""
    function = click.option(
        "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any other option of the task, as JSON."
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


def print_text(terminal: Terminal, pipe: GenerationPipeline, text: str) -> None:
    """Print what the model writes to one text as it comes; Ctrl-C ends the text, and what was written stays."""
    cancel = CancelToken()
    with stopped_by_interrupt(cancel), pipe.stream(text, cancel=cancel) as stream:
        print_piece(pipe.opening(text))
        for piece in stream:
            print_piece(piece)
    click.echo()
    terminal.say(described(stream.result))


def print_piece(piece: str) -> None:
    """Print a part of a model's text: on a terminal without control characters, elsewhere as it is."""
    text = _CONTROLS.sub("", piece) if sys.stdout.isatty() else piece
    click.echo(text, nl=False, color=True)  # else click takes out what looks like a colour


def figures(result: Generation) -> dict[str, Any]:
    """What there is to say of an answer, JSON-able; seconds, and tokens a second after the first one."""
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
    """The same in one line for a person."""
    found = figures(result)
    speed = f" at {found['tokens_per_second']:.1f} a second" if found["tokens_per_second"] else ""
    kept = f", {found['reused_tokens']} of them known from before" if found["reused_tokens"] else ""
    return (
        f"{found['tokens']} tokens{speed}, the first after {found['first_token']:.2f} s; "
        f"a prompt of {found['prompt_tokens']} tokens{kept}; ended by {found['finish_reason']}."
    )


@contextmanager
def stopped_by_interrupt(cancel: CancelToken, noted: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Ctrl-C sets the token instead of ending the program; one that comes long after, unheard, ends it after all.

    Args:
        cancel: what is set.
        noted: called with the first Ctrl-C.
    """
    since = 0.0

    def stop(*_: object) -> None:
        nonlocal since
        if cancel.cancelled and time.monotonic() - since > _PATIENCE:
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
