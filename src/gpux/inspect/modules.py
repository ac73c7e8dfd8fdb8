"""``modules.json`` of sentence-transformers: the modules of a model in order, each with its class and its folder.

The classes are ``sentence_transformers.models.Pooling`` up to version 4, and
``sentence_transformers.sentence_transformer.modules.pooling.Pooling`` from 5 on. A folder is any path in the
repository: ``1_Pooling``, ``pooling/``, ``modules/pooling``; empty for a transformer whose files are at
the top, where versions before 2.0 wrote ``0_Transformer``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from gpux.errors import CorruptFileError
from gpux.model.values import Value

MODULES = "modules.json"
_PACKAGE = re.compile(
    r"^sentence_transformers\.(models|(base|sentence_transformer|sparse_encoder|cross_encoder)\.(modules|models))"
    r"(\.\w+)*\.(\w+)$"
)


@dataclass(frozen=True)
class Module(Value):
    """One module."""

    reference: str  #: of its class, as the file has it
    name: str | None  #: of a class of sentence-transformers; None for a class of the repository's own code
    folder: str  #: of its files, without a slash at its end; empty for the top


def parse_modules(content: Any, where: str = MODULES) -> tuple[Module, ...]:
    """The modules that a parsed ``modules.json`` lists.

    Args:
        content: the JSON value.
        where: names the file in errors.

    Raises:
        CorruptFileError: it is not a list of modules, or names a folder outside of the repository.
    """
    if not isinstance(content, list) or not content:
        raise _corrupt(where, "is not a list of modules")
    return tuple(_module(entry, where) for entry in content)


def transformer_folder(modules: Sequence[Module]) -> str:
    """The folder of the first module's own files, where the transformer and its tokenizer are; empty for the top."""
    return modules[0].folder if modules else ""


def _module(entry: Any, where: str) -> Module:
    reference, path = (entry.get("type"), entry.get("path", "")) if isinstance(entry, dict) else (None, None)
    if not isinstance(reference, str) or not isinstance(path, str):
        raise _corrupt(where, f"has the module {entry!r} without a class or a folder")
    folder = PurePosixPath(path.replace("\\", "/"))
    if folder.is_absolute() or ".." in folder.parts or (folder.parts and ":" in folder.parts[0]):
        raise _corrupt(where, f"names the folder {path!r}, which is outside of the repository")
    match = _PACKAGE.match(reference)
    return Module(reference, match[5] if match else None, "" if folder == PurePosixPath() else str(folder))


def _corrupt(where: str, what: str) -> CorruptFileError:
    return CorruptFileError(
        f"{where} {what}", hint="The file is as the source has it: report this to the owner of the model.", path=where
    )
