"""What is known of a model at its source: files, revisions, info, a snapshot on this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gpux.errors import UnsafePathError
from gpux.model.json_file import read_json
from gpux.model.transfer import TransferReport
from gpux.model.values import Value


def check_path(path: str) -> None:
    """Names of files come from outside: none may lead out of the folder it belongs to, on any system.

    Raises:
        UnsafePathError: absolute, with a drive, with ``..``, a backslash or a control character, or empty.
    """
    parts = path.split("/")
    if "" in parts or ".." in parts or "." in parts or re.search(r"[\x00-\x1f\\]|^.:", path):
        raise UnsafePathError(f"the file name {path!r} could leave its folder", file=path)


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
    license: str | None = None
    model_type: str | None = None
    architectures: tuple[str, ...] = ()
    parameters: int | None = None  #: count, from the headers of safetensors or GGUF files
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
        """The JSON object in one of the files, ``{}`` for a missing file; see :mod:`gpux.model.json_file`."""
        return read_json(self.path / name)
