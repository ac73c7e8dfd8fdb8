"""Options of a task on the command line: ``--option NAME=VALUE``, and ``--candidate-labels a,b`` for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from gpux.errors import GpuxError, UsageError

if TYPE_CHECKING:
    from gpux.pipelines.base import Pipeline
    from gpux.pipelines.options import OptionSpec


class TaskCommand(click.Command):
    """A command that also takes the options of tasks, as if each were declared: ``--name VALUE`` or ``--name=VALUE``.

    Which they are depends on the task of the model, so that they are checked by :func:`task_options`. A name that no
    task has is refused by click, which suggests the nearest one.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Turn options of tasks into ``--option NAME=VALUE``, and parse."""
        known = {name for param in self.params for name in (*param.opts, *param.secondary_opts)}
        return super().parse_args(ctx, list(_as_assignments(args, known | {"-h", "--help"})))


def task_options(kind: type[Pipeline], assignments: Sequence[str], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call, each of the type that the task declares.

    Args:
        kind: the pipeline of the task.
        assignments: of ``--option``: ``top_k=3``.
        flags: options that the command declares; None and ``()`` stand for no value.

    Raises:
        UsageError: an assignment without ``=``, an option that the task does not have, or a value of another type.
    """
    from gpux.pipelines.options import check_names, parse_option

    specs = {spec.name: spec for spec in kind.options()}
    found = {name: value for name, value in flags.items() if value not in (None, ())}
    texts = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--option {assignment} has no value", hint="Write it as --option top_k=3.")
        texts[name.strip().replace("-", "_")] = text
    _check_task(kind, {**found, **texts})
    check_names(kind.task, {**found, **texts}, sorted(specs))
    return {**found, **{name: parse_option(kind.task, specs[name], text) for name, text in texts.items()}}


def _check_task(kind: type[Pipeline], names: Iterable[str]) -> None:
    """Refuse an option of another task that the same model serves, such as zero-shot-classification.

    Raises:
        UsageError: with that task as its hint.
    """
    own = {spec.name for spec in kind.options()}
    missing = sorted(set(names) - own)
    if not missing:
        return
    for task, other in _pipelines():
        if other.model_task == kind.model_task and set(missing) <= {spec.name for spec in other.options()}:
            raise UsageError(f"{kind.task} has no option {missing[0]}", hint=f"{task} has it: add --task {task}.")


def _as_assignments(args: Sequence[str], known: set[str]) -> Iterator[str]:
    """The arguments with ``--option NAME=VALUE`` for each option that the command does not declare and a task does."""
    tasks: dict[str, OptionSpec] | None = None
    left = iter(args)
    for arg in left:
        flag, equals, text = arg.partition("=")
        if arg == "--":
            yield from (arg, *left)
            return
        if not flag.startswith("--") or flag in known:
            yield arg
            continue
        tasks = _options_of_tasks() if tasks is None else tasks
        name = flag[2:].replace("-", "_")
        if name not in tasks:
            yield arg
        elif equals:
            yield from ("--option", f"{name}={text}")
        elif tasks[name].schema.get("type") == "boolean":
            yield from ("--option", f"{name}=true")
        else:
            value = next(left, None)
            if value is None:
                raise click.UsageError(f"Option {flag!r} requires an argument.")
            yield from ("--option", f"{name}={value}")


def _options_of_tasks() -> dict[str, OptionSpec]:
    """The options of all tasks by name; those of a pipeline whose extra is not installed are left out."""
    return {spec.name: spec for _, kind in _pipelines() for spec in kind.options()}


def _pipelines() -> Iterator[tuple[str, type[Pipeline]]]:
    """Each task with its pipeline class, if the class's extra is installed."""
    from gpux.pipelines.registry import pipelines

    for task, point in pipelines().items():
        try:
            kind: type[Pipeline] = point.load()
        except (GpuxError, ImportError):
            continue
        yield task, kind
