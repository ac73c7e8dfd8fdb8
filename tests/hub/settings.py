"""Configuration: a repository's `repo.json`, users, the server's options."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

SETTINGS_FILE = "repo.json"

LFS_PATTERNS = (
    *("*.bin", "*.bin.*", "*.gguf", "*.h5", "*.mlmodel", "*.model", "*.msgpack", "*.npy", "*.npz", "*.onnx"),
    *("*.onnx_data", "*.onnx.data", "*.pb", "*.pkl", "*.pt", "*.pth", "*.safetensors", "*.tflite", "*.zip"),
)
"""File names that a new repository's `.gitattributes` sends to LFS whatever their size."""

_JSON_NAMES = {"cardData": "card_data", "createdAt": "created_at", "lastModified": "last_modified"}
"""Keys of `repo.json` which are spelled as in the Hub's own JSON."""


@dataclass(frozen=True)
class User:
    """An account. It may read the private and gated repositories of its own name, of its `orgs`, and those that
    list it under `allowed`."""

    name: str
    orgs: tuple[str, ...] = ()
    fullname: str = ""
    email: str = ""
    role: Literal["read", "write"] = "read"


@dataclass(frozen=True)
class RepoSettings:
    """The content of `repo.json`; every key is optional.

    A *label* names a folder of files (`revisions/<label>`, or `main/` for the label `main`). Refs point to
    labels, as git refs point to commits, so moving a branch is a change of one entry here.

    - `allowed`: names of users with access to a private or gated repository
    - `renamed_from`: former ids, and legacy ids without an organisation; they are answered by a redirect
    - `branches`, `git_tags`: ref name to label (`main` points to label `main` unless set)
    - `pull_requests`: number to label, reachable as `refs/pr/<number>`
    - `parents`: label to the label of the preceding commit; `titles`: label to commit title
    - `tags`: added to those of the files; `pipeline_tag`, `library_name`, `card_data`: replace those of the files
    - `lfs_patterns`, `lfs_threshold`: None for the server's values
    - `scans`: path to the result of a file's security scan: `level` (safe, unsafe, suspicious ...) and `imports`, each
      with `module`, `name` and `safety`; files without an entry are safe
    - `phantom_files`: names listed but without content, for testing clients against hostile listings
    - `extra`: further keys of the model's JSON, such as `gguf` or `inference`
    """

    private: bool = False
    gated: Literal[False, "auto", "manual"] = False
    disabled: bool = False
    allowed: tuple[str, ...] = ()
    renamed_from: tuple[str, ...] = ()
    branches: Mapping[str, str] = field(default_factory=dict)
    git_tags: Mapping[str, str] = field(default_factory=dict)
    pull_requests: Mapping[str, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    pipeline_tag: str | None = None
    library_name: str | None = None
    tags: tuple[str, ...] = ()
    card_data: Mapping[str, Any] | None = None
    downloads: int = 0
    likes: int = 0
    trending_score: int = 0
    created_at: str = "2022-03-02T23:29:04.000Z"
    last_modified: str | None = None
    lfs_patterns: tuple[str, ...] | None = None
    lfs_threshold: int | None = None
    phantom_files: tuple[str, ...] = ()
    scans: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.gated not in (False, "auto", "manual"):
            raise ValueError(f"gated is {self.gated!r}; use False, 'auto' or 'manual'")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RepoSettings:
        """Settings from parsed JSON; an unknown key is an error."""
        values = {_JSON_NAMES.get(key, key): value for key, value in data.items()}
        known = {item.name for item in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise ValueError(f"unknown keys in {SETTINGS_FILE}: {', '.join(unknown)}")
        fitting: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fitting)

    @classmethod
    def load(cls, folder: Path) -> RepoSettings:
        """The settings of the repository in `folder`; the defaults without a `repo.json`."""
        try:
            text = (folder / SETTINGS_FILE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return cls()
        return cls.from_json(json.loads(text))

    def save(self, folder: Path) -> None:
        """Writes `repo.json` atomically, for running servers."""
        names = {value: key for key, value in _JSON_NAMES.items()}
        default = asdict(RepoSettings())
        data = {names.get(key, key): value for key, value in asdict(self).items() if value != default[key]}
        temporary = folder / f".{SETTINGS_FILE}.{os.getpid()}"
        temporary.write_text(json.dumps(data, indent=2, ensure_ascii=False), encoding="utf-8")
        temporary.replace(folder / SETTINGS_FILE)


@dataclass
class Options:
    """How the server behaves; the fields may be changed while it runs.

    - `resolve_cache`: regular files are answered by a 307 to `/api/resolve-cache/...`, as on the real Hub
    - `strict_401`: a missing repository is refused to anonymous callers without `X-Error-Code`, as on the
      real Hub. For http URLs huggingface_hub then raises no RepositoryNotFoundError; hence not the default
    - `lfs_threshold`: size in bytes from which files go to LFS
    - `cdn_ttl`: seconds for which a signed CDN URL is valid
    - `cdn_once`: whether a signed CDN URL is valid for one request only
    - `list_page_size`, `tree_page_size`, `expanded_page_size`, `commit_page_size`: entries in one page
    """

    resolve_cache: bool = False
    strict_401: bool = False
    lfs_threshold: int = 10_000
    cdn_ttl: float = 3600.0
    cdn_once: bool = False
    list_page_size: int = 1000
    tree_page_size: int = 1000
    expanded_page_size: int = 50
    commit_page_size: int = 50
    aliases: Mapping[str, str] = field(default_factory=dict)
