"""``gpux tasks``: what can be run, and with which options."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from gpux.cli.terminal import Terminal, command

if TYPE_CHECKING:
    from gpux.pipelines.tasks import TaskInfo


@command("tasks")
@click.argument("task", required=False)
def tasks_command(terminal: Terminal, task: str | None) -> None:
    """List the tasks that have a pipeline, or show one: what it takes, its options, the model types proven for it.

    A type is proven where the answers to models of the type, with random weights, were equal to those of
    transformers.pipeline or sentence-transformers. Other models are proven when they are pulled.
    """
    from gpux.pipelines.tasks import task_info, tasks

    if task is not None:
        info = task_info(task)
        if terminal.as_json:
            terminal.data(info.to_dict())
        else:
            _show(terminal, info)
        return
    found = tasks()
    if terminal.as_json:
        terminal.data([info.to_dict() for info in found])
        return
    rows = [(info.name, info.takes or "", _needs(info), str(len(info.model_types)), info.summary) for info in found]
    terminal.table(("Task", "Takes", "Extra", "Proven types", "Answer"), rows, right=(3,), whole=0)


def _needs(info: TaskInfo) -> str:
    return f"{info.extra or ''} (missing)".strip() if info.missing else info.extra or ""


def _show(terminal: Terminal, info: TaskInfo) -> None:
    extra = f"pip install 'gpux[{info.extra}]'" if info.extra else ""
    takes: str = info.takes or ""
    if info.input_keys:
        keys = f"a dict of {', '.join(info.input_keys)}"
        takes = keys if takes == "text" else f"{takes}, or {keys}"
    facts = [
        ("Task", info.name),
        ("Also", ", ".join(info.aliases)),
        ("Answer", info.summary),
        ("Takes", takes),
        ("Needs", info.missing or extra),
        ("Models", f"those for {info.model_task}" if info.model_task != info.name else ""),
        ("Package", info.package if info.package != "gpux" else ""),
        ("Proven types", ", ".join(info.model_types) or "none yet"),
        ("Example", info.example),
    ]
    terminal.table(("", ""), [(name, text) for name, text in facts if text])
    rows = [
        (option.name, str(option.to_dict()["type"]), _default(option.default), option.help) for option in info.options
    ]
    terminal.table(("Option", "Type", "Default", "Meaning"), rows, whole=0)


def _default(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)
