"""The folder of repositories: `models/<org>/<name>/`, or `models/<name>/` for legacy ids; Spaces in `spaces/`."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from tests.hub.repository import MAIN, REVISIONS, CommitCache, Repository, is_repository
from tests.hub.settings import Options, RepoSettings

MODELS = "models"
SPACES = "spaces"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,96}")


class RepoStore:
    """Finds repositories. The disk is read for every request: repositories can be added to a running server."""

    def __init__(self, root: Path, options: Options, kind: str = MODELS) -> None:
        self.root = root / kind
        self.options = options
        self.cache = CommitCache()
        self._moved: dict[str, dict[str, str]] = {}  # id -> branch -> label, of this server alone

    def ids(self) -> Iterator[str]:
        """The ids of all repositories, sorted."""
        for owner in _names_in(self.root):
            folder = self.root / owner
            if is_repository(folder):
                yield owner
                continue
            yield from (f"{owner}/{name}" for name in _names_in(folder) if is_repository(folder / name))

    def open(self, repo_id: str) -> Repository | None:
        """The repository of exactly this id, or None.

        Each part of the id is compared with the names in its folder before it is joined to a path: neither `..` nor, on
        a case-insensitive file system, another case is accepted.
        """
        folder = self.root
        for part in repo_id.split("/"):
            if not is_valid_name(part) or part not in _names_in(folder):
                return None
            folder = folder / part
        if not is_repository(folder):
            return None
        return Repository(repo_id, folder, self.cache, self.options, self._moved.get(repo_id, {}))

    def successor(self, repo_id: str) -> Repository | None:
        """The repository that an id is redirected to, by alias, former name or other case; or None."""
        wanted = repo_id.lower()
        aliases = {old.lower(): new for old, new in self.options.aliases.items()}
        if wanted in aliases:
            return self.open(aliases[wanted])
        for known in self.ids():
            repository = self.open(known)
            if repository is None:  # Removed since it was listed.
                continue
            if known.lower() == wanted or wanted in map(str.lower, repository.settings.renamed_from):
                return repository
        return None

    def move_branch(self, repo_id: str, branch: str, label: str) -> None:
        """Points a branch, new or not, to a label, on this server only: other servers share the folder.

        Raises KeyError without such a repository, HubError without such a label.
        """
        repository = self.open(repo_id)
        if repository is None:
            raise KeyError(repo_id)
        repository.commit(label)
        self._moved[repo_id] = {**self._moved.get(repo_id, {}), branch: label}


def add_repo(
    root: Path,
    repo_id: str,
    files: Mapping[str, bytes | Path],
    *,
    label: str = MAIN,
    kind: str = MODELS,
    **settings: Any,
) -> Path:
    """Writes a repository, or a further label of a repository, and returns its folder.

    A value of `files` is the content or the path of a file, which is hard-linked if possible; do not write to it in
    place. `settings` are fields of RepoSettings; they replace those of an existing repository. The label's folder is
    replaced atomically, for running servers. Raises ValueError for an id, label or file name that could lead out of
    `root`. `kind` is `models` or `spaces`.
    """
    _check_id(repo_id)
    if not is_valid_name(label):
        raise ValueError(f"{label!r} is not a plain name")
    folder = root / kind / repo_id
    (folder / REVISIONS).mkdir(parents=True, exist_ok=True)
    RepoSettings.from_json({**asdict(RepoSettings.load(folder)), **settings}).save(folder)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        written = Path(temporary, label)
        written.mkdir()
        for name, source in files.items():
            _write_file(written, name, source)
        target = folder / REVISIONS / label
        if target.exists():
            target.rename(Path(temporary, "replaced"))
        written.rename(target)
    return folder


def folder_files(folder: Path) -> dict[str, bytes | Path]:
    """All files below a folder, in the form that `add_repo` accepts."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def is_valid_name(name: str) -> bool:
    """Whether one part of a repository id is valid: plain characters, neither `..` nor `--`, no `.git`."""
    plain = _NAME.fullmatch(name) is not None and name != "." and not name.endswith(".git")
    return plain and ".." not in name and "--" not in name


def _check_id(repo_id: str) -> None:
    parts = repo_id.split("/")
    if len(parts) > 2 or not all(map(is_valid_name, parts)):
        raise ValueError(f"{repo_id!r} is not a repository id")
    if parts[-1] in {MAIN, REVISIONS}:
        raise ValueError(f"a repository cannot be named {parts[-1]!r}: that is a folder inside one")


def _write_file(folder: Path, name: str, source: bytes | Path) -> None:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or path.as_posix() != name:
        raise ValueError(f"{name!r} is not a relative path inside a repository")
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, bytes):
        target.write_bytes(source)
        return
    try:
        os.link(source.resolve(), target)
    except OSError:  # Another file system, or one without hard links.
        shutil.copy2(source, target)


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except FileNotFoundError:
        return []
