"""``gpux run``: a model on the inputs of a command line, or on the rows of a file."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from gpux.cli.generating import generation_options, print_text
from gpux.cli.references import reference_argument
from gpux.cli.task_options import TaskCommand, task_options
from gpux.cli.terminal import Terminal, command
from gpux.cli.toolchain import with_toolchain
from gpux.errors import CancelledError, InputError, UnsupportedError, UsageError
from gpux.model.variant import StoredModel

if TYPE_CHECKING:
    from gpux.pipelines.base import AnswerRow, Pipeline
    from gpux.pipelines.generation.base import GenerationPipeline
    from gpux.pipelines.rows.answering import RowsSummary
    from gpux.pipelines.rows.source import Columns, Rows

_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
#: Suffixes of the pictures that ``--save`` writes.
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tiff", ".bmp")


@command("run", kind=TaskCommand)
@reference_argument
@click.argument("inputs", nargs=-1)
@click.option("--input", "source", type=click.Path(path_type=Path), help="File or folder of inputs, one per row.")
@click.option("--output", type=click.Path(path_type=Path), help="File of the answers of --input: .jsonl or .parquet.")
@click.option(
    "--column", "columns", multiple=True, metavar="NAME", help="Column of --input to read; KEY=NAME for several."
)
@click.option("--restart", is_flag=True, help="Write --output from the beginning, in place of continuing it.")
@click.option("--save", type=click.Path(path_type=Path), help="Draw the answer: a picture, or a folder for several.")
@click.option("--allow-urls", is_flag=True, help="Fetch pictures and sounds whose path is an http(s) address.")
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
    source: Path | None,
    output: Path | None,
    columns: tuple[str, ...],
    restart: bool,
    save: Path | None,
    allow_urls: bool,
    task: str | None,
    revision: str | None,
    precision: str | None,
    device: str,
    offline: bool,
    yes: bool,
    assignments: tuple[str, ...],
    **flags: Any,
) -> int:
    """Run a model and print one answer for each input, in order; pulls the model first if it is not stored.

    INPUTS are texts, or files for a task that takes pictures or sounds. Without INPUTS, or with a single -, each line
    of standard input is one. For a single text, a model that generates text prints it as it arrives.

    --input reads .txt, .jsonl, .csv, .parquet or a folder, and --output gets one row for each. The same command
    continues a run that was stopped.

    `gpux tasks TASK` lists the options of a task. Each is an option here too: --candidate-labels a,b.
    """
    from gpux.pipelines.registry import pipeline_class, pipeline_of
    from gpux.pull.open import open_model, pipeline

    terminal.override(offline=offline or None)
    _check_together(inputs, source, output, columns, restart=restart, save=save)
    if task:  # what is wrong is said before anything is pulled
        task_options(pipeline_class(task), assignments, flags)

    def opened() -> StoredModel:
        with terminal.progress() as progress:
            return open_model(
                ref, task=task, revision=revision, precision=precision, settings=terminal.settings, progress=progress
            )

    rows = None
    given = None if source is not None else _given(inputs)
    model = with_toolchain(terminal, opened, yes=yes)
    kind = pipeline_class(task) if task else pipeline_of(model)
    options = task_options(kind, assignments, flags)
    _check_save(kind, save)
    if source is not None:
        rows = _rows(kind, source, columns, urls=allow_urls)
    values = [] if given is None else [_value(kind, one, urls=allow_urls) for one in given]
    with pipeline(task, model=model, device=device, **options) as pipe:
        for note in pipe.session.notes:  # devices that `auto` did not choose, and why
            terminal.say(f"! {note}")
        if rows is not None:
            return _run_rows(terminal, pipe, rows, output, options, restart=restart)
        if pipe.streams and len(values) == 1 and not terminal.as_json:
            print_text(terminal, cast("GenerationPipeline", pipe), values[0])
            return 0
        if save is None:
            answers: list[Any] = pipe.answers(values)
        else:
            found = pipe.run(values, {})
            _save(terminal, pipe, save, values, found)
            answers = [pipe.to_json(answer) for answer in found]
    if terminal.as_json:
        terminal.data(answers, compact=True)
    else:
        _print_answers(terminal, given or [], answers, pipe.render)
    return 0


def _check_together(
    inputs: tuple[str, ...],
    source: Path | None,
    output: Path | None,
    columns: tuple[str, ...],
    *,
    restart: bool,
    save: Path | None,
) -> None:
    """Refuse options that do not belong together, and an output that cannot be written."""
    if source is None:
        for name, value in (("--output", output), ("--column", columns), ("--restart", restart)):
            if value:
                raise UsageError(f"{name} is for the rows of a file", hint="Name the file with --input.")
        return
    if inputs:
        raise UsageError("inputs are given twice", hint="Pass either texts and files, or --input.")
    if save is not None:
        raise UsageError(
            "--save is for single inputs", hint="Pass files without --input: gpux run REF *.png --save DIR"
        )
    if output is not None:
        from gpux.pipelines.rows.writing import check_output

        check_output(output)
        if output.exists() and source.exists() and output.samefile(source):
            raise UsageError(f"{output} is both --input and --output", hint="Choose another --output.")


def _given(inputs: tuple[str, ...]) -> list[str]:
    """The inputs of the command line, or the lines of standard input."""
    if inputs and inputs != ("-",):
        return list(inputs)
    stdin: TextIO | None = sys.stdin  # None where the shell closed it
    if stdin is None or (stdin.isatty() and not inputs):
        raise UsageError("no input text", hint='Pass one: gpux run org/name "some text".')
    if isinstance(stdin, io.TextIOWrapper):  # bytes in another encoding reach the check that names the text
        stdin.reconfigure(errors="surrogateescape")
    return [line.rstrip("\r\n") for line in stdin]


def _value(kind: type[Pipeline], given: str, *, urls: bool) -> Any:
    """What the pipeline is called with: a text, the path of a checked file, or the dict that a task takes.

    Raises:
        InputError: a file that is missing, or holds something else; an address; a dict that is not JSON.
    """
    from gpux.pipelines.rows.source import open_input

    opened = partial(open_input, takes=kind.takes, folder=Path(), urls=urls)
    if kind.input_keys and given.lstrip().startswith("{"):
        try:
            value = json.loads(given)
        except ValueError as exc:
            example = json.dumps(dict.fromkeys(kind.input_keys, "…"), ensure_ascii=False)
            raise InputError(f"{given!r} is not JSON: {exc}", hint=f"Write it as '{example}'.") from exc
        return {key: opened(item) if key == kind.takes != "text" else item for key, item in value.items()}
    return given if kind.takes == "text" else opened(given)


def _check_save(kind: type[Pipeline], save: Path | None) -> None:
    """Refuse ``--save`` for a task without pictures, or with an unknown suffix."""
    from gpux.pipelines.base import Pipeline

    if save is None:
        return
    if kind.picture is Pipeline.picture:
        raise UnsupportedError(f"an answer of {kind.task} has no picture", hint="Run it without --save.")
    if save.suffix and save.suffix.lower() not in _PICTURES and not save.is_dir():
        raise UsageError(f"{save} is not a picture by its name", hint=f"Name it {', '.join(_PICTURES)}.")


def _save(terminal: Terminal, pipe: Pipeline, save: Path, values: Sequence[Any], answers: Sequence[Any]) -> None:
    """Write the picture of each answer: to a file, or for several into a folder, named as the inputs."""
    from gpux.system.disk import disk_errors

    single = bool(save.suffix) and not save.is_dir()
    if single and len(values) > 1:
        raise UsageError(
            f"{save} is one picture, and there are {len(values)}", hint=f"Name a folder: --save {save.stem}/"
        )
    with disk_errors(save.parent if single else save, hint="Choose another --save."):
        (save.parent if single else save).mkdir(parents=True, exist_ok=True)
        for value, answer, target in zip(values, answers, [save] if single else _targets(save, values), strict=True):
            picture = pipe.picture(value, answer)
            try:
                picture.save(target)
            except ValueError as exc:  # a format that Pillow does not write here
                raise UsageError(f"{target} cannot be written: {exc}", hint="Name it .png.") from exc
            except OSError as exc:
                if exc.errno is not None:  # the disk's; Pillow's own have no number
                    raise
                raise UsageError(f"{target} cannot be written: {exc}", hint="Name it .png.") from exc
            terminal.say(f"✓ {target}")


def _targets(folder: Path, values: Sequence[Any]) -> list[Path]:
    """A picture in the folder for each input, named as the input; the second of a name has its number."""
    found: list[Path] = []
    for number, value in enumerate(values):
        stem = value.stem if isinstance(value, Path) else f"input-{number}"
        target = folder / f"{stem}.png"
        found.append(folder / f"{stem}-{number}.png" if target in found else target)
    return found


def _rows(kind: type[Pipeline], source: Path, columns: Sequence[str], *, urls: bool) -> Rows:
    from gpux.pipelines.rows.reading import open_rows
    from gpux.pipelines.rows.source import Columns

    wanted: Columns = Columns(columns, kind.takes, kind.input_keys, urls)
    return open_rows(source, wanted)


def _run_rows(
    terminal: Terminal,
    pipe: Pipeline,
    rows: Rows,
    output: Path | None,
    options: Mapping[str, Any],
    *,
    restart: bool,
) -> int:
    """Answer the rows of a file; exit code 10 if some could not be answered."""
    from gpux.pipelines.rows.answering import answer_rows, answer_windows, result_of, run_key
    from gpux.pipelines.rows.writing import open_output

    if output is None:
        failed = 0
        for answered in answer_windows(pipe, rows):
            for row, answer in answered:
                found = result_of(row, answer)
                failed += "error" in found
                terminal.data(found, compact=True)
        if failed:
            terminal.warn(f"{failed:,} {_rows_word(failed)} failed")
        return InputError.exit_code if failed else 0
    with open_output(output, run_key(rows, pipe, options), restart=restart) as written:
        if written.done:
            terminal.say(f"Continuing {output} after {written.done:,} {_rows_word(written.done)}.")
        try:
            with terminal.rows_progress(rows.total) as progress:
                summary = answer_rows(pipe, rows, written, progress)
        except KeyboardInterrupt:
            raise CancelledError(
                f"interrupted: {output} has {written.done:,} {_rows_word(written.done)}",
                hint="Run the same command again to continue.",
            ) from None
    _report(terminal, summary, output, written.errors_path)
    return InputError.exit_code if summary.failed else 0


def _report(terminal: Terminal, summary: RowsSummary, output: Path, errors: Path) -> None:
    if terminal.as_json:
        failures = str(errors) if summary.failed else None
        terminal.data({**summary.to_dict(), "output": str(output), "errors": failures})
    new = summary.rows - summary.continued
    speed = f", {summary.per_second:,.1f} per second" if new else ""
    terminal.say(f"✓ {new:,} {_rows_word(new)} in {summary.seconds:,.1f} s{speed}: {output} has {summary.rows:,}")
    if summary.failed:
        terminal.warn(
            f"{summary.failed:,} {_rows_word(summary.failed)} failed", hint=f"{errors} has their inputs and reasons."
        )


def _rows_word(count: int) -> str:
    return "row" if count == 1 else "rows"


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
