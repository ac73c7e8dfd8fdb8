"""``gpux run``."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from gpux.cli.generating import chosen_options, generation_options, print_text
from gpux.cli.references import reference_argument
from gpux.cli.terminal import Terminal, command
from gpux.cli.toolchain import with_toolchain
from gpux.errors import UsageError
from gpux.model.variant import StoredModel

if TYPE_CHECKING:
    from gpux.pipelines.base import AnswerRow
    from gpux.pipelines.generation.base import GenerationPipeline

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


@command("run")
@reference_argument
@click.argument("inputs", nargs=-1)
@click.option("--task", help="The task to run; by default the one that the model's files declare.")
@click.option("--revision", help="Branch, tag, refs/pr/N or commit.")
@click.option("--precision", metavar="NAME", help="int8, int4 …, or auto for the device; as REF:int8.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1, coreml … or auto.")
@click.option("--offline", is_flag=True, help="Use stored models only; make no request.")
@click.option("--yes", "-y", is_flag=True, help="Install a missing toolchain without asking.")
@generation_options
def run_command(
    terminal: Terminal,
    ref: str,
    inputs: tuple[str, ...],
    task: str | None,
    revision: str | None,
    precision: str | None,
    device: str,
    offline: bool,
    yes: bool,
    **options: Any,
) -> None:
    """Run a model on texts and print one answer for each, in order; pulls the model first if it is not stored.

    Without INPUTS, or with a single -, each line of standard input is a text. For a single text, a model that generates
    text prints it as it arrives.
    """
    from gpux.pull.open import open_model, pipeline

    terminal.override(offline=offline or None)
    texts = _texts(inputs)

    def opened() -> StoredModel:
        with terminal.progress() as progress:
            return open_model(
                ref, task=task, revision=revision, precision=precision, settings=terminal.settings, progress=progress
            )

    model = with_toolchain(terminal, opened, yes=yes)
    with pipeline(task or model.task, model=model, device=device, **chosen_options(**options)) as pipe:
        for note in pipe.session.notes:  # devices that `auto` did not choose, and why
            terminal.say(f"! {note}")
        if pipe.streams and len(texts) == 1 and not terminal.as_json:
            print_text(terminal, cast("GenerationPipeline", pipe), texts[0])
            return
        answers: list[Any] = pipe.answers(texts)
    if terminal.as_json:
        terminal.data(answers, compact=True)
    else:
        _print_answers(terminal, texts, answers, pipe.render)


def _texts(inputs: tuple[str, ...]) -> list[str]:
    if inputs and inputs != ("-",):
        return list(inputs)
    stdin: TextIO | None = sys.stdin  # None where the shell closed it
    if stdin is None or (stdin.isatty() and not inputs):
        raise UsageError("no input text", hint='Pass one: gpux run org/name "some text".')
    if isinstance(stdin, io.TextIOWrapper):  # bytes in another encoding reach the check that names the text
        stdin.reconfigure(errors="surrogateescape")
    return [line.rstrip("\r\n") for line in stdin]


def _print_answers(
    terminal: Terminal, texts: Sequence[str], answers: Sequence[Any], render: Callable[[Any], list[AnswerRow]]
) -> None:
    """Print one row or more for each text: the text, a score if the answer has one, and the answer.

    In a pipe, a tab, a line break or a backslash in a cell is escaped as in C, so that each row is one line of three
    cells.

    Args:
        terminal: prints the table.
        texts: the inputs.
        answers: one for each text.
        render: the rows of an answer, by the pipeline that gave it.
    """
    rows = [
        (text, "" if row.score is None else f"{row.score:.4f}", row.text)
        for text, answer in zip(texts, answers, strict=True)
        for row in render(answer)
    ]
    if not sys.stdout.isatty():
        rows = [(text.translate(_ESCAPES), score, shown.translate(_ESCAPES)) for text, score, shown in rows]
    terminal.table(("Input", "Score", "Answer"), rows, right=(1,))
