"""What can be run: the tasks that have a pipeline, what each takes, its options, and the model types proven for it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from gpux.errors import UnsupportedError
from gpux.model.tasks import ALIASES
from gpux.pipelines.base import Kind, Pipeline
from gpux.pipelines.options import OptionSpec
from gpux.pipelines.registry import pipeline_class, pipelines

#: Written by scripts/update_proven_types.py from docs/coverage.json.
_PROVEN = Path(__file__).with_name("proven_types.json")
_EXTRAS: Mapping[Kind, str] = {"image": "vision", "audio": "audio", "video": "vision"}
#: Roles and literals of reStructuredText.
_MARKUP = re.compile(r"(?::\w+:)?`+~?([^`]+)`+")
_EXAMPLES: Mapping[Kind, str] = {
    "text": '"some text"',
    "image": "image.png",
    "audio": "speech.wav",
    "video": "film.gif",
}


@dataclass(frozen=True)
class TaskInfo:
    """A task with a pipeline, as :func:`tasks` lists it."""

    name: str
    summary: str  #: the first line of the pipeline's description
    takes: Kind | None  #: what an input is; None where the extra is missing, so that the pipeline cannot be read
    input_keys: tuple[str, ...]  #: of an input that is a dict
    extra: str | None  #: of gpux, which installs what the task needs
    missing: str | None  #: what has to be done before the task runs here; None: nothing
    aliases: tuple[str, ...]
    options: tuple[OptionSpec, ...]
    model_task: str  #: the task that models are stored for
    #: model types whose answers in this task were compared with the reference library's, on random weights
    model_types: tuple[str, ...]
    package: str  #: the distribution that registers it
    pictures: bool  #: whether answers can be drawn, see :meth:`gpux.Pipeline.picture`

    @property
    def example(self) -> str:
        """A command line."""
        given = _EXAMPLES[self.takes or "text"]
        if self.input_keys and self.takes == "text":
            several = {key: ["…"] if key.endswith("s") else "…" for key in self.input_keys}
            given = f"'{json.dumps(several, ensure_ascii=False)}'"
        needed = " --candidate-labels cats,dogs" if any(one.name == "candidate_labels" for one in self.options) else ""
        return f"gpux run org/name {given}{needed}" + (" --save drawn.png" if self.pictures else "")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "name": self.name,
            "summary": self.summary,
            "takes": self.takes,
            "input_keys": list(self.input_keys),
            "extra": self.extra,
            "missing": self.missing,
            "aliases": list(self.aliases),
            "model_task": self.model_task,
            "model_types": list(self.model_types),
            "package": self.package,
            "pictures": self.pictures,
            "example": self.example,
            "options": [_plain(option) for option in self.options],
        }


def tasks() -> list[TaskInfo]:
    """Every task that has a pipeline, third parties' too, sorted by name.

    >>> ", ".join(task.name for task in gpux.tasks() if task.takes == "image")
    'depth-estimation, image-classification, …'
    """
    return [_info(name, point) for name, point in sorted(pipelines().items())]


def task_info(name: str) -> TaskInfo:
    """One task, by its name or an alias.

    Raises:
        UnsupportedTaskError: no pipeline is registered for it.
        UnsupportedError: the pipeline needs a package of an extra that is not installed.
    """
    kind = pipeline_class(name)
    return _info(kind.task, pipelines()[kind.task])


def _info(name: str, point: EntryPoint) -> TaskInfo:
    package = point.dist.name if point.dist is not None else "gpux"
    known = pipelines()
    aliases = tuple(alias for alias, meant in ALIASES.items() if meant == name and alias not in known)
    try:
        kind = pipeline_class(name)
    except UnsupportedError as error:
        return TaskInfo(name, "", None, (), None, error.hint, aliases, (), name, proven_types(name), package, False)
    summary = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
    return TaskInfo(
        name=name,
        summary=_MARKUP.sub(r"\1", summary),
        takes=kind.takes,
        input_keys=tuple(kind.input_keys),
        extra=_EXTRAS.get(kind.takes) if package == "gpux" else None,
        missing=None,
        aliases=aliases,
        options=tuple(kind.options()),
        model_task=kind.model_task,
        model_types=proven_types(name),
        package=package,
        pictures=kind.picture is not Pipeline.picture,
    )


def proven_types(task: str) -> tuple[str, ...]:
    """The model types whose answers in a task were compared with the reference library's, and were equal."""
    return tuple(_proven().get(task, ()))


@cache
def _proven() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(_PROVEN.read_text(encoding="utf-8"))
    return found


def _plain(option: OptionSpec) -> dict[str, Any]:
    """An option with a default that JSON can hold."""
    found = option.to_dict()
    try:
        json.dumps(found["default"])
    except TypeError:
        found["default"] = str(found["default"])
    return found
