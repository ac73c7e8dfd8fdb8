"""The values that travel between the parts of gpux: frozen, picklable, with ``to_dict()``."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from gpux.errors import CorruptFileError, UnsafePathError

if TYPE_CHECKING:
    from gpux.managers.report import TransferReport

ProofStatus = Literal["proven", "shipped", "inexact"]


def to_jsonable(value: Any) -> Any:
    """Nested frozen values as plain JSON-able ones: dataclasses to objects, tuples to lists, paths to text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_jsonable(getattr(value, f.name)) for f in fields(value) if f.repr}
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has neither infinity nor NaN
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dict):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_jsonable(item) for item in value]
    return value


def check_path(path: str) -> None:
    """Names of files come from outside: none may lead out of the folder it belongs to, on any system.

    Raises:
        UnsafePathError: absolute, with a drive, with ``..``, a backslash or a control character, or empty.
    """
    parts = path.split("/")
    if "" in parts or ".." in parts or "." in parts or re.search(r"[\x00-\x1f\\]|^.:", path):
        raise UnsafePathError(f"the file name {path!r} could leave its folder", file=path)


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file, ``{}`` where there is no such file or it holds another kind of value.

    Raises:
        CorruptFileError: the file is not JSON.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as exc:  # not JSON, or not UTF-8
        raise CorruptFileError(f"{file} is not JSON: {exc}", hint="Run `gpux verify`.") from exc
    return found if isinstance(found, dict) else {}


class Value:
    """Base of the frozen values: one ``to_dict`` for all."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The value as JSON-able values."""
        found: dict[str, Any] = to_jsonable(self)
        return found


@dataclass(frozen=True)
class ModelFile(Value):
    """One file of a model at one commit."""

    path: str  #: relative, with forward slashes
    size: int | None  #: bytes; None where the source does not tell
    blob_id: str | None = None  #: git blob sha1 (of the pointer, for an LFS file)
    sha256: str | None = None  #: of the content; known for LFS files only

    def __post_init__(self) -> None:
        check_path(self.path)

    @property
    def etag(self) -> str | None:
        """The name of the blob in the source cache: sha256 for LFS files, git blob sha1 else."""
        return self.sha256 or self.blob_id


@dataclass(frozen=True)
class Revision(Value):
    """A name that stands for a commit."""

    name: str  #: as the user types it after ``@``
    kind: Literal["branch", "tag", "pull_request", "convert"]
    commit: str


@dataclass(frozen=True)
class ModelInfo(Value):
    """What a manager knows of a model at one commit, without its weights.

    A search result has the same shape; what the listing does not tell (``commit``, ``files``) is empty there.
    """

    scheme: str
    id: str  #: canonical: ``openai-community/gpt2`` where the user asked for ``gpt2``
    requested_id: str
    commit: str = ""
    revision: str | None = None  #: the branch, tag or pull request that was resolved; None for a commit
    files: tuple[ModelFile, ...] = ()
    formats: tuple[str, ...] = ()  #: formats of the weights: ``safetensors``, ``onnx``, ``gguf`` …
    task: str | None = None  #: the source's own name of the task (``pipeline_tag``)
    library: str | None = None
    licence: str | None = None
    model_type: str | None = None
    architectures: tuple[str, ...] = ()
    parameters: int | None = None  #: count, from the safetensors headers
    gated: Literal["auto", "manual"] | None = None
    private: bool = False
    disabled: bool = False
    downloads: int | None = None
    likes: int | None = None
    tags: tuple[str, ...] = ()
    last_modified: str | None = None  #: ISO 8601

    @property
    def size(self) -> int:
        """Bytes of all files whose size is known."""
        return sum(file.size or 0 for file in self.files)

    def file(self, path: str) -> ModelFile | None:
        """The file of that path, or None."""
        return next((file for file in self.files if file.path == path), None)


@dataclass(frozen=True)
class SourceSnapshot(Value):
    """Files of one commit on this machine, each checked against its hash."""

    info: ModelInfo
    path: Path  #: folder in which ``files`` lie
    files: tuple[str, ...]
    report: TransferReport | None = None  #: what it took to bring them, where a manager counts

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON object from one of the files, ``{}`` where it is not there; see :func:`read_json`."""
        return read_json(self.path / name)


@dataclass(frozen=True)
class TensorSpec(Value):
    """Name, dtype and shape of a graph's input or output; a dynamic axis is its name, or None."""

    name: str
    dtype: str  #: numpy name: ``int64``, ``float32`` …
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class GraphSpec(Value):
    """One ONNX graph of a variant; most tasks have one, named ``model``."""

    name: str
    file: str  #: relative to the variant's folder
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Driving(Value):
    """How the graphs must be driven; the proof was made exactly so, and the runtime obeys."""

    padding_side: Literal["right", "left"] = "right"
    max_length: int | None = None  #: tokens; longer inputs are outside what was proven
    chunks_after_cache: bool = False  #: may several tokens follow a key-value cache in one call
    position_inputs: bool = False  #: positions are an input of the graph


@dataclass(frozen=True)
class ProofCase(Value):
    """One comparison of the ONNX outputs with the original's."""

    name: str
    shapes: dict[str, tuple[int, ...]]  #: of the inputs
    max_abs_diff: float  #: largest over all outputs
    tolerance: float  #: what ``max_abs_diff`` may be, for this case
    kept: bool  #: inputs and reference outputs are stored, so that the case can be replayed

    @property
    def passed(self) -> bool:
        """True when the difference is within tolerance (false for NaN)."""
        return self.max_abs_diff <= self.tolerance


@dataclass(frozen=True)
class Proof(Value):
    """What shows that a variant answers as the original does."""

    status: ProofStatus
    cases: tuple[ProofCase, ...] = ()
    reference: dict[str, str] = field(default_factory=dict)  #: library -> version that computed the reference
    onnxruntime: str = ""  #: version that the ONNX outputs were computed with
    execution_provider: str = ""

    @property
    def max_abs_diff(self) -> float | None:
        """Largest difference of all cases; None without any."""
        return max((case.max_abs_diff for case in self.cases), default=None)


@dataclass(frozen=True)
class StoredFile(Value):
    """One file of a variant, as the manifest promises it."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest(Value):
    """What a variant is; written once, never changed."""

    scheme: str
    id: str
    commit: str
    task: str
    precision: str
    recipe: str  #: name of the converter, or ``shipped`` for the repository's own ONNX
    graphs: tuple[GraphSpec, ...]
    files: tuple[StoredFile, ...]
    driving: Driving
    proof: Proof
    versions: dict[str, str]  #: library -> version that wrote the graphs (empty for ``shipped``)
    model_type: str | None = None
    licence: str | None = None
    created: str = ""  #: ISO 8601, UTC
    own_task: bool = True  #: the task is the model's own, which a reference without a task means
    schema: int = 1


@dataclass(frozen=True)
class StoredModel(Value):
    """A runnable variant in the store."""

    path: Path
    manifest: Manifest
    #: what the pull that answered with this value brought over the network; None for a value read from the store
    report: TransferReport | None = field(default=None, compare=False, repr=False)

    @property
    def id(self) -> str:
        """The canonical id of the model."""
        return self.manifest.id

    @property
    def commit(self) -> str:
        """The commit that it was made from."""
        return self.manifest.commit

    @property
    def task(self) -> str:
        """The Hub's name of the task."""
        return self.manifest.task

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.size for file in self.manifest.files)

    def graph(self, name: str = "model") -> GraphSpec:
        """The graph of that name.

        Raises:
            KeyError: the variant has none.
        """
        for graph in self.manifest.graphs:
            if graph.name == name:
                return graph
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Path, size and the manifest's values on one level."""
        return {"path": str(self.path), "size": self.size, **self.manifest.to_dict()}

    def has_file(self, path: str) -> bool:
        """True if the variant has a file of that path, by its manifest."""
        return any(file.path == path for file in self.manifest.files)

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON object from a file of the variant, ``{}`` where it is not there; see :func:`read_json`."""
        return read_json(self.path / name)
