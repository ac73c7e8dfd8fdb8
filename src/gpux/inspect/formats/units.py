"""Groups of files that belong together: directory packages, shards, graphs with their external data.

Names come from Apple's Core ML tools (``.mlpackage``, ``.mlmodelc``), TensorFlow's SavedModel and checkpoints,
the shards of transformers and llama.cpp (``-00001-of-00003``), Meta's ``consolidated.00.pth``, OpenVINO's
``.xml`` + ``.bin``, and the external data of ONNX (see :func:`external_data_of`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

UnitKind = Literal["file", "package", "checkpoint", "graph", "pair", "shards"]

_PACKAGE = re.compile(r"^(.+?\.(?:mlpackage|mlmodelc))/.")  # the outermost: a package may hold a compiled one
_SAVED_MODEL = re.compile(  # tensorflow.org/guide/saved_model, "The SavedModel format on disk"
    r"^(saved_model\.pb|fingerprint\.pb|keras_metadata\.pb|variables/.+|assets/.+|assets\.extra/.+)$"
)
_CHECKPOINT = re.compile(r"^(.+\.ckpt(?:-\d+)?)\.(?:index|meta|data-\d+-of-\d+)$")
_EXTERNAL_DATA = re.compile(r"^(.+\.onnx)[._]data(_\d+)?$")
_SHARD = re.compile(r"^(?P<head>.+?)[-_.](?P<number>\d{1,6})-of-(?P<total>\d{1,6})(?P<tail>\.[^/]+)$")
_CONSOLIDATED = re.compile(r"^(?P<head>(?:.+/)?consolidated)\.(?P<number>\d\d)(?P<tail>\.[^/.]+)$")


@dataclass(frozen=True)
class Unit:
    """Files that are selected together; a single file is a unit of one."""

    name: str  #: folder of a package, graph of external data, pattern of shards, else the file
    kind: UnitKind
    paths: tuple[str, ...]
    index: str | None = None  #: index of the shards: it may be selected alone, they require it
    missing: int = 0  #: shards that are missing in the repository

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the unit and its index."""
        return self.paths if self.index is None else (*self.paths, self.index)


def units(paths: Iterable[str]) -> tuple[Unit, ...]:
    """Group files by name; every file is in exactly one unit.

    An index of shards is a unit of its own (``--include "*.json"`` must not select 100 GB of shards), which its shards
    name in ``index``.
    """
    names = frozenset(paths)
    saved = frozenset(_folder(path) for path in names if PurePosixPath(path).name == "saved_model.pb")
    found: dict[tuple[str, UnitKind], list[str]] = {}
    for path in sorted(names):
        found.setdefault(_key(path, names, saved), []).append(path)
    return tuple(_unit(name, kind, members, names) for (name, kind), members in sorted(found.items()))


def complete(matched: Iterable[str], found: Iterable[Unit]) -> frozenset[str]:
    """The files with all that they require: the rest of their unit, and the index of their shards."""
    wanted = frozenset(matched)
    return wanted.union(*(unit.files for unit in found if not wanted.isdisjoint(unit.paths)))


def external_data_of(graph: str, paths: Iterable[str]) -> tuple[str, ...]:
    """The external data files of an ONNX graph, by the names that exporters use.

    ``model.onnx_data``, ``model.onnx_data_1`` … (optimum, onnx-community), ``model.onnx.data`` (torch,
    onnxruntime-genai), ``weights.pb`` beside ``model.onnx`` (diffusers' conversion script).
    """
    return tuple(sorted({path for path in paths if graph_of(path) == graph}))


def graph_of(path: str) -> str | None:
    """The ONNX graph to which a file of external data belongs, by name; None for any other file."""
    match = _EXTERNAL_DATA.match(path)
    if match:
        return match[1]
    file = PurePosixPath(path)
    return str(file.with_name("model.onnx")) if file.name == "weights.pb" else None


def _folder(path: str) -> str:
    """The folder with its trailing slash; empty for the top."""
    return path[: path.rfind("/") + 1]


def _key(path: str, names: frozenset[str], saved: frozenset[str]) -> tuple[str, UnitKind]:
    """Name and kind of the unit of a path; packages take precedence over the files inside."""
    return (
        _package(path, saved)
        or _checkpoint(path)
        or _graph(path, names)
        or _shards(path)
        or _pair(path, names)
        or (path, "file")
    )


def _package(path: str, saved: frozenset[str]) -> tuple[str, UnitKind] | None:
    match = _PACKAGE.match(path)
    if match:
        return match[1], "package"
    for folder in _parents(path):
        if folder in saved and _SAVED_MODEL.match(path[len(folder) :]):
            return f"{folder}saved_model.pb", "package"  # the folder may contain other files, and may be the top
    return None


def _parents(path: str) -> Iterator[str]:
    """Every folder above a file, the top first, with trailing slashes."""
    yield ""
    yield from (path[: match.end()] for match in re.finditer("/", path))


def _checkpoint(path: str) -> tuple[str, UnitKind] | None:
    match = _CHECKPOINT.match(path)
    return (match[1], "checkpoint") if match else None


def _graph(path: str, names: frozenset[str]) -> tuple[str, UnitKind] | None:
    if path.endswith(".onnx"):
        return path, "graph"
    graph = graph_of(path)
    return (graph, "graph") if graph in names and graph is not None else None


def _shards(path: str) -> tuple[str, UnitKind] | None:
    match = _SHARD.match(path)
    if match:
        return f"{match['head']}-*-of-{match['total']}{match['tail']}", "shards"
    match = _CONSOLIDATED.match(path)
    return (f"{match['head']}.*{match['tail']}", "shards") if match else None


def _pair(path: str, names: frozenset[str]) -> tuple[str, UnitKind] | None:
    """OpenVINO's graph and weights: the same name with ``.xml`` and ``.bin``."""
    stem, dot, suffix = path.rpartition(".")
    paired = suffix in ("xml", "bin") and {f"{stem}.xml", f"{stem}.bin"} <= names
    return (f"{stem}{dot}xml", "pair") if paired else None


def _unit(name: str, kind: UnitKind, members: list[str], names: frozenset[str]) -> Unit:
    if kind != "shards":
        return Unit(name, kind, tuple(members))
    return Unit(name, kind, tuple(members), _index(members[0], names), _missing(members))


def _missing(members: list[str]) -> int:
    """Number of shards that the names imply but the repository does not have."""
    match = _SHARD.match(members[0])
    if match:
        numbers = {int(shard["number"]) for member in members if (shard := _SHARD.match(member))}
        return sum(number not in numbers for number in range(1, int(match["total"]) + 1))
    last = _CONSOLIDATED.match(members[-1])  # Meta's names start at 00 and do not state the total
    return int(last["number"]) + 1 - len(members) if last else 0


def missing_shards(unit: Unit) -> tuple[str, ...]:
    """The names of the shards that the other names imply and the repository does not have."""
    first = unit.paths[0]
    match, last = _SHARD.match(first), _CONSOLIDATED.match(unit.paths[-1])
    if match:
        numbers, (start, stop) = range(1, int(match["total"]) + 1), match.span("number")
    elif last:
        numbers, (start, stop) = range(int(last["number"]) + 1), last.span("number")
    else:
        return ()
    named = (f"{first[:start]}{number:0{stop - start}d}{first[stop:]}" for number in numbers)
    return tuple(name for name in named if name not in unit.paths)


def _index(member: str, names: frozenset[str]) -> str | None:
    """``model.safetensors.index.json``, or ``model.safetensors.index.fp16.json`` for the shards of a variant."""
    match = _SHARD.match(member)
    if not match:
        return None
    folder, head = _folder(match["head"]), PurePosixPath(match["head"]).name
    stem, _, variant = head.partition(".")
    *legacy, suffix = match["tail"].lstrip(".").split(".")  # diffusers also wrote model-00001-of-00002.fp16.safetensors
    variant = variant or ".".join(legacy)
    named = f".{variant}" if variant else ""
    wanted = (f"{folder}{stem}.{suffix}.index{named}.json", f"{match['head']}{match['tail']}.index.json")
    return next((name for name in wanted if name in names), None)
