"""Where a repository has the files of its model: at the top, or in the folders that ``modules.json`` names.

sentence-transformers reads each module from the folder in its entry: ``1_Pooling``, ``pooling/``, ``0_Transformer``
with configuration, weights and tokenizer. A variant, and the folder that a converter reads, have its files at the top,
in place of files of the same name there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpux.errors import UnsupportedError
from gpux.inspect import formats
from gpux.inspect.formats import OnnxVariant
from gpux.inspect.modules import MODULES, Module, parse_modules, transformer_folder
from gpux.model.info import ModelInfo, SourceSnapshot
from gpux.model.json_file import load_json
from gpux.model.values import Value
from gpux.pull.context import PullContext

#: First modules that are a transformer; sentence-transformers computes the token vectors of others in its own code.
_TRANSFORMERS = ("Transformer", "MLMTransformer")


@dataclass(frozen=True)
class Layout(Value):
    """The modules of a repository; none for one without ``modules.json``."""

    modules: tuple[Module, ...] = ()

    @property
    def folder(self) -> str:
        """The folder of the transformer's files; empty for the top."""
        return transformer_folder(self.modules)

    def run_files(self, paths: Iterable[str]) -> tuple[str, ...]:
        """The files that a run needs besides the graph, see :func:`formats.run_files`."""
        return formats.run_files(paths, self.modules)

    def source_weights(self, paths: Iterable[str]) -> tuple[str, ...]:
        """The weights that a converter reads, see :func:`formats.source_weights`."""
        return tuple(map(self.whole, formats.source_weights(self._inside(paths))))

    def graphs(self, paths: Iterable[str], precision: str) -> tuple[OnnxVariant, ...]:
        """The repository's own ONNX, see :func:`formats.runnable_graphs`: beside the transformer, else at the top."""
        names = tuple(paths)
        found = formats.runnable_graphs(self._inside(names), precision)[1]
        moved = (
            replace(graph, graph=self.whole(graph.graph), external_data=tuple(map(self.whole, graph.external_data)))
            for graph in found
        )
        return tuple(moved) or formats.runnable_graphs(names, precision)[1]

    def refusal(self, info: ModelInfo) -> UnsupportedError | None:
        """Why the weights cannot be converted: the first module is not a transformer; None if it is."""
        first = self.modules[0] if self.modules else None
        if first is None or first.name is None or first.name in _TRANSFORMERS:
            return None
        return UnsupportedError(
            f"the first module of {info.id} is {first.name} ({first.reference}), and gpux converts Transformer only",
            hint=f"See the parts of the model with `gpux info {info.id} --files`; a part that is a transformers model "
            "can be pulled from a repository or folder of its own.",
            model=info.id,
        )

    def inside(self, info: ModelInfo) -> ModelInfo:
        """The info of the transformer's folder, as if it were a repository of its own."""
        if not self.folder:
            return info
        names = {self.whole(path): path for path in self._inside(file.path for file in info.files)}
        files = tuple(replace(file, path=names[file.path]) for file in info.files if file.path in names)
        return replace(info, files=files)

    def whole(self, path: str) -> str:
        """The path in the repository of a file in the transformer's folder."""
        return f"{self.folder}/{path}" if self.folder else path

    def _inside(self, paths: Iterable[str]) -> list[str]:
        """The paths in the transformer's folder, relative to it."""
        start = f"{self.folder}/" if self.folder else ""
        return [path.removeprefix(start) for path in paths if path.startswith(start)]


def read_layout(context: PullContext, info: ModelInfo) -> Layout:
    """The layout of a repository, by its ``modules.json``, which is fetched.

    Raises:
        CorruptFileError: the file is not a list of modules.
        ManagerError: the source does not answer.
    """
    if info.file(MODULES) is None:
        return Layout()
    snapshot = context.manager.fetch(info, [MODULES], cancel=context.cancel)
    if snapshot.report is not None:
        context.transfers.append(snapshot.report)
    return Layout(parse_modules(load_json(snapshot.path / MODULES), f"{MODULES} of {info.id}"))


def described(info: ModelInfo, config: Mapping[str, Any]) -> ModelInfo:
    """The info with the type and the architectures of the transformer's own configuration."""
    architectures = tuple(str(name) for name in config.get("architectures") or ())
    return replace(info, model_type=config.get("model_type") or info.model_type, architectures=architectures)


def placed(path: str, folder: str) -> str:
    """Where a file of a repository is in its variant, if the transformer's files are in ``folder``."""
    above, _, name = path.rpartition("/")
    return name if folder and above == folder else path


def in_order(paths: Iterable[str], folder: str) -> list[str]:
    """The paths, those of the transformer first, so that its files are placed before others of the same name."""
    return sorted(paths, key=lambda path: (placed(path, folder) == path, path))


def modules_at_top(file: Path) -> str:
    """The content of a ``modules.json`` whose first module is at the top."""
    content = load_json(file)
    content[0]["path"] = ""
    return json.dumps(content, indent=2)


def flattened(snapshot: SourceSnapshot, folder: str, target: Path) -> Path:
    """The folder that a converter reads: the snapshot, or links to its files with those of ``folder`` at the top."""
    if not folder:
        return snapshot.path
    for path in in_order(snapshot.files, folder):
        source, file = snapshot.path / path, target / placed(path, folder)
        if file.exists():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        if path == MODULES:
            file.write_text(modules_at_top(source), encoding="utf-8")
        else:
            _link(source, file)
    return target


def _link(source: Path, file: Path) -> None:
    try:
        file.symlink_to(source.resolve())
    except OSError:  # Windows without the right to make links
        shutil.copyfile(source, file)
