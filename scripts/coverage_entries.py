"""The entries of the coverage matrix: every (model type, task) of the zoo, and its special folders."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.models import zoo

from gpux.model.tasks import canonical

PROGRAM = Path(zoo.__file__)


@dataclass(frozen=True)
class Entry:
    """One folder that is pulled for one task."""

    name: str  #: of the folder
    model_type: str  #: with its variant
    task: str  #: as the zoo names it
    group: str  #: ``zoo``, ``extra``, ``more`` or ``folder``
    error_meant: str | None = None  #: the error that a special folder should end in

    @property
    def base(self) -> str:
        """The model type that its config.json names."""
        return self.model_type.partition("+")[0]

    @property
    def hub_task(self) -> str:
        """The task by the Hub's name."""
        return canonical(self.task)


def entries() -> Iterator[Entry]:
    """All of them, in a fixed order."""
    for group, listed in (("zoo", zoo.ZOO), ("extra", zoo.EXTRA), ("more", zoo.MORE)):
        for model_type, task in listed:
            yield Entry(zoo.folder_name(model_type, task), model_type, task, group)
    for name, folder in zoo.FOLDERS.items():
        yield Entry(name, folder.model_type, folder.task, "folder", folder.error)


def chosen(only: Collection[str], shard: tuple[int, int]) -> list[Entry]:
    """Those that are named by folder, type, base type, task or group (all without names), every n-th from i of them."""
    found = [
        entry
        for entry in entries()
        if not only or {entry.name, entry.model_type, entry.base, entry.task, entry.hub_task, entry.group} & set(only)
    ]
    number, count = shard
    return found[number - 1 :: count]
