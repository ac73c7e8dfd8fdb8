"""A model at its source: its files, revisions, info and page, and a snapshot of its files on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gpux.errors import UnsafePathError
from gpux.model.html import facts
from gpux.model.json_file import read_json
from gpux.model.transfer import TransferReport
from gpux.model.units import format_bytes
from gpux.model.values import Value


def check_path(path: str) -> None:
    """Check that a file name of a repository stays inside its folder, on every operating system.

    Raises:
        UnsafePathError: the name is absolute or empty, or has a drive, ``..``, a backslash or a control character.
    """
    parts = path.split("/")
    if "" in parts or ".." in parts or "." in parts or re.search(r"[\x00-\x1f\\]|^.:", path):
        raise UnsafePathError(f"the file name {path!r} could leave its folder", file=path)


@dataclass(frozen=True)
class ModelFile(Value):
    """One file of a model at one commit."""

    path: str  #: relative, with forward slashes
    size: int | None  #: bytes; None if the source does not state it
    blob_id: str | None = None  #: git blob sha1 (of the pointer, for an LFS file)
    sha256: str | None = None  #: of the content; known for LFS files only

    def __post_init__(self) -> None:
        check_path(self.path)

    @property
    def etag(self) -> str | None:
        """The name of the blob in the source cache: sha256 for LFS files, git blob sha1 for others."""
        return self.sha256 or self.blob_id


@dataclass(frozen=True)
class Revision(Value):
    """A branch, tag, pull request or conversion, with the commit that it points to."""

    name: str  #: as the user types it after ``@``
    kind: Literal["branch", "tag", "pull_request", "convert"]
    commit: str


@dataclass(frozen=True)
class ModelInfo(Value):
    """The metadata of a model at one commit.

    Search results have the same type; fields that a listing does not contain (``commit``, ``files``) are empty there.
    """

    scheme: str
    id: str  #: canonical: ``openai-community/gpt2`` for a request of ``gpt2``
    requested_id: str
    commit: str = ""
    revision: str | None = None  #: the branch, tag or pull request that was resolved; None for a commit
    files: tuple[ModelFile, ...] = ()
    formats: tuple[str, ...] = ()  #: formats of the weights: ``safetensors``, ``onnx``, ``gguf`` …
    task: str | None = None  #: the name of the task at the source (``pipeline_tag``)
    library: str | None = None
    license: str | None = None
    model_type: str | None = None
    architectures: tuple[str, ...] = ()
    parameters: int | None = None  #: number of weights, from the headers of safetensors or GGUF files
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
        """The file with that path, or None."""
        return next((file for file in self.files if file.path == path), None)

    def _repr_html_(self) -> str:
        """A table, for notebooks."""
        rows = (
            ("commit", self.commit[:12]),
            ("task", self.task),
            ("model type", self.model_type),
            ("parameters", None if self.parameters is None else f"{self.parameters:,}"),
            ("formats", ", ".join(self.formats)),
            ("license", self.license),
            ("access", f"gated ({self.gated})" if self.gated else "private" if self.private else None),
            ("downloads", None if self.downloads is None else f"{self.downloads:,}"),
            ("files", f"{len(self.files)}, {format_bytes(self.size)}" if self.files else None),
        )
        return facts(self.id, rows)


@dataclass(frozen=True)
class ModelPage(Value):
    """A model's page at its source: its info and its card. Fields that the source does not have are empty."""

    info: ModelInfo
    card: Mapping[str, Any] = field(default_factory=dict)  #: front matter of README.md, as the source parsed it
    results: tuple[Mapping[str, Any], ...] = ()  #: ``model-index``, as the model card specification has it
    dtypes: Mapping[str, int] = field(default_factory=dict)  #: safetensors dtype -> elements, over the main weights
    gguf: Mapping[str, Any] = field(default_factory=dict)  #: fields of a GGUF header, as the Hub read them
    scan: Mapping[str, Any] | None = None  #: ``securityRepoStatus``; None if not requested or not available
    created: str | None = None  #: ISO 8601
    downloads_all_time: int | None = None
    trending: float | None = None
    from_source: bool = True  #: False: from the files on this machine


@dataclass(frozen=True)
class SourceSnapshot(Value):
    """Files of one commit on this machine, each checked against its hash."""

    info: ModelInfo
    path: Path  #: folder that holds ``files``
    files: tuple[str, ...]
    report: TransferReport | None = None  #: requests and bytes of the download, from managers that count them

    def read_json(self, name: str) -> dict[str, Any]:
        """The JSON object in one of the files, ``{}`` for a missing file; see :mod:`gpux.model.json_file`."""
        return read_json(self.path / name)
