"""The external data of shipped graphs: the files that the graphs themselves name, and not those with usual names only.

A graph of at most :data:`LARGEST` bytes is downloaded while the pull is planned, so that the plan states every file. A
larger one, which usually holds its weights, is read after its download, and what it names beyond the plan is fetched
then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from gpux.errors import CorruptFileError, EntryNotFoundError, SessionError, UnavailableError
from gpux.inspect.formats import OnnxVariant, format_of
from gpux.inspect.formats.run_files import kind_by_name
from gpux.inspect.headers.onnx_graphs import external_files
from gpux.managers.base import ModelManager
from gpux.model.info import ModelInfo
from gpux.model.transfer import TransferReport
from gpux.model.units import format_bytes
from gpux.system.cancel import CancelToken

LARGEST = 8 << 20  #: bytes of a graph that is read while the pull is planned
#: Returns a graph with the external data that it names.
ReadGraph = Callable[[OnnxVariant], OnnxVariant]

_NO_DATA = (".md", ".py", ".txt", ".json", ".onnx", ".gitattributes", ".png", ".jpg", ".jinja")


class GraphReader:
    """Reads the graphs of one model, each once."""

    def __init__(
        self,
        manager: ModelManager,
        info: ModelInfo,
        cached: set[str],
        cancel: CancelToken | None = None,
        transfers: list[TransferReport] | None = None,
    ) -> None:
        self._manager, self._info, self._cached = manager, info, cached
        self._cancel = cancel
        self._transfers = [] if transfers is None else transfers
        self._found: dict[str, OnnxVariant] = {}

    def read(self, graph: OnnxVariant) -> OnnxVariant:
        """The graph with the files that it names; unchanged where it is large, unreadable, or the source is silent.

        Raises:
            EntryNotFoundError, SessionError, UnsafePathError: as :func:`with_named_data`.
        """
        if graph.graph not in self._found:
            self._found[graph.graph] = self._read(graph)
        return self._found[graph.graph]

    def _read(self, graph: OnnxVariant) -> OnnxVariant:
        file = self._info.file(graph.graph)
        if file is None or (graph.graph not in self._cached and (file.size is None or file.size > LARGEST)):
            return graph
        try:
            snapshot = self._manager.fetch(self._info, [graph.graph], cancel=self._cancel)
        except UnavailableError:  # offline, or the Hub fails: the download reports it, where it is needed
            return graph
        if snapshot.report is not None:
            self._transfers.append(snapshot.report)
        return with_named_data(graph, self._info, snapshot.path)


def with_named_data(graph: OnnxVariant, info: ModelInfo, folder: Path) -> OnnxVariant:
    """The graph with the external data that its file in ``folder`` names; unchanged for a file that is not ONNX.

    Raises:
        EntryNotFoundError: the model does not have a file that the graph names.
        SessionError: the model has the file, and it is shorter than the graph needs.
        UnsafePathError: a name leads out of the graph's folder.
    """
    try:
        named = external_files(folder / graph.graph)
    except CorruptFileError:  # onnxruntime says more exactly what is wrong
        return graph
    place = PurePosixPath(graph.folder)
    needed = {str(place / file.path): file.size for file in named}
    listed = {file.path: file.size for file in info.files}
    missing = [path for path in needed if path not in listed]
    if missing:
        local = info.scheme == "local"
        raise EntryNotFoundError(
            f"{graph.graph} of {info.id} reads weights from {', '.join(missing)}, which the "
            f"{'folder' if local else 'repository'} does not have",
            hint=f"Copy {', '.join(PurePosixPath(path).name for path in missing)} into {folder / place}."
            if local
            else "Its files are as the source has them: report this to the owner of the model.",
            model=info.id,
            file=missing[0],
        )
    for path, size in needed.items():
        has = listed[path]
        if has is not None and has < size:
            raise SessionError(
                f"{path} of {info.id} has {has} bytes, and {graph.graph} reads {size}",
                hint=f"Copy the whole file into {folder / place}."
                if info.scheme == "local"
                else "Its files are as the source has them: report this to the owner of the model.",
            )
    return replace(graph, external_data=tuple(needed))


def undecided(graph: OnnxVariant, info: ModelInfo, cached: set[str]) -> str | None:
    """A note on a graph that is read after its download only, where other files of its folder may be its data."""
    file = info.file(graph.graph)
    if file is None or graph.graph in cached or (file.size is not None and file.size <= LARGEST):
        return None
    others = {
        other.path: other.size or 0
        for other in info.files
        if other.path.startswith(f"{graph.folder}/" if graph.folder else "")
        and other.path not in graph.files
        and _may_be_data(other.path)
    }
    if not others:
        return None
    most = format_bytes(sum(others.values()))
    return f"{graph.graph} is read after its download; files that it names are fetched then, {most} at most"


def _may_be_data(path: str) -> bool:
    name = PurePosixPath(path).name
    return not name.lower().endswith(_NO_DATA) and kind_by_name(name) is None and format_of(path) in (None, "pytorch")
