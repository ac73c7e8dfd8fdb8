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

    name: str  #: of the model folder
    model_type: str  #: including its variant
    task: str  #: by the zoo's name
    group: str  #: ``zoo``, ``extra``, ``more`` or ``folder``
    expected_error: str | None = None  #: the error that pulling a special folder should raise

    @property
    def base(self) -> str:
        """The model type that its config.json names."""
        return self.model_type.partition("+")[0]

    @property
    def hub_task(self) -> str:
        """The task by the Hub's name."""
        return canonical(self.task)


def entries() -> Iterator[Entry]:
    """All entries, in a fixed order."""
    for group, listed in (("zoo", zoo.ZOO), ("extra", zoo.EXTRA), ("more", zoo.MORE)):
        for model_type, task in listed:
            yield Entry(zoo.folder_name(model_type, task), model_type, task, group)
    for name, folder in zoo.FOLDERS.items():
        yield Entry(name, folder.model_type, folder.task, "folder", folder.error)


def chosen(only: Collection[str], shard: tuple[int, int]) -> list[Entry]:
    """Entries selected by folder, type, base type, task or group (without names: all), every N-th from the I-th."""
    found = [
        entry
        for entry in entries()
        if not only or {entry.name, entry.model_type, entry.base, entry.task, entry.hub_task, entry.group} & set(only)
    ]
    number, count = shard
    return found[number - 1 :: count]
