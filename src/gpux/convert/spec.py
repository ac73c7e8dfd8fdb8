"""The description of a converter whose exporter runs in a process of its own: all that gpux needs to use one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpux.convert.base import Refusal
from gpux.convert.memory import MemoryEstimate
from gpux.errors import UsageError

#: Model type -> the Hub's names of the tasks that it is converted for.
Architectures = Mapping[str, Sequence[str]]
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class ConverterSpec:
    """A converter, registered as the value of an entry point of the group ``gpux.converters`` with its name.

    The worker is a program that speaks :mod:`gpux.system.worker_protocol`. It gets the requests

    * ``{"command": "versions", "modules": [...], **options}``, answered with ``versions`` (library -> version) after
      the modules were imported, and
    * ``{"command": "convert", **request, **options}`` with the fields of
      :class:`~gpux.convert.base.ConversionRequest`, answered with those of
      :class:`~gpux.convert.base.ConversionReport`.

    Raises:
        UsageError: the name cannot name a folder.
    """

    name: str  #: lowercase letters, digits, ``-`` and ``_``; names the toolchain too
    #: the program: a module of gpux or of a package in ``requirements``, or the path of a Python file
    worker: str | Path
    architectures: Callable[[], Architectures]  #: called when a model is looked at, not at import
    #: a requirement file of pip, or its lines; empty: the worker runs in gpux's own environment
    requirements: Path | tuple[str, ...] = ()
    #: a requirement file of packages for writing tokenizers that differ from those of ``requirements``: they are
    #: installed without dependencies into the toolchain's folder ``tokenizer``
    tokenizer_requirements: Path | None = None
    modules: tuple[str, ...] = ()  #: what the worker imports: where all are installed beside gpux, no toolchain is used
    options: Mapping[str, Any] = field(default_factory=dict)  #: added to every request
    #: why a model is not converted, from ``config.json`` and task; default: what ``architectures`` does not list
    refuse: Callable[[Mapping[str, Any], str], Refusal | None] | None = None
    precisions: tuple[str, ...] = ("fp32",)  #: of the graphs that it writes
    proves_others: bool = False  #: it supports requests with ``graphs``: reference cases for another exporter's graphs
    memory: MemoryEstimate = field(default_factory=MemoryEstimate)
    priority: int = 100  #: of converters that were not measured for a model, the lowest comes first
    packages: tuple[str, ...] = ()  #: whose versions ``gpux toolchain list`` shows
    extra: str | None = None  #: the extra of gpux that installs the requirements in gpux's own environment

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"{self.name!r} is not a valid name of a converter",
                hint="Use lowercase letters, digits, '-' and '_', and begin with a letter or a digit.",
            )

    def requirement_lines(self) -> tuple[str, ...]:
        """The requirements, without comments and empty lines."""
        lines = self.requirements
        if isinstance(lines, Path):
            lines = tuple(lines.read_text(encoding="utf-8").splitlines())
        return tuple(line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))

    def refusal(self, config: Mapping[str, Any], task: str) -> Refusal | None:
        """Why the model is not converted; None if it is. See :meth:`gpux.convert.base.Converter.refusal`."""
        if self.refuse is not None:
            return self.refuse(config, task)
        return refuse_unlisted(self.architectures(), str(config.get("model_type") or ""), task)


def refuse_unlisted(architectures: Architectures, model_type: str, task: str) -> Refusal | None:
    """The refusal of a model type, or of a task for this type, that a table does not list."""
    if model_type not in architectures:
        return Refusal(f"does not support the model type {model_type!r}", False)
    tasks = architectures[model_type]
    if task not in tasks:
        return Refusal(f"converts {model_type} for {', '.join(tasks)}, not for {task}", True)
    return None
