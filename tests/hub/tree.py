"""Entries of directories: the replies to `tree` and `paths-info`."""

from __future__ import annotations

from typing import Any

from tests.hub.contents import Blob
from tests.hub.messages import HubError
from tests.hub.model_info import PHANTOM_OID
from tests.hub.repository import Repository, Revision

# No entry has an `xetHash`: a client with Xet would then not use HTTP.


def list_tree(
    repository: Repository, revision: Revision, below: str, *, recursive: bool, expand: bool
) -> list[dict[str, Any]]:
    """The entries of a directory, or of it and all directories below, by path. Raises HubError (404) if missing."""
    commit = revision.commit
    if below and below not in commit.directories:
        raise HubError(404, f"{below} does not exist on this revision", "EntryNotFound")
    prefix = f"{below}/" if below else ""
    paths = [
        path
        for path in (*commit.directories, *commit.files)
        if path.startswith(prefix) and (recursive or "/" not in path[len(prefix) :])
    ]
    entries = list_paths(repository, revision, sorted(paths), expand=expand)
    if not below:
        entries += [_phantom(name) for name in repository.settings.phantom_files]
    return entries


def list_paths(repository: Repository, revision: Revision, paths: list[str], *, expand: bool) -> list[dict[str, Any]]:
    """The entries of `paths`, without those that do not exist."""
    entries = []
    for path in paths:
        entry = _entry(revision, path.rstrip("/"))
        if entry is not None:
            entries.append({**entry, **(_expansion(repository, revision, entry) if expand else {})})
    return entries


def _entry(revision: Revision, path: str) -> dict[str, Any] | None:
    commit = revision.commit
    if path in commit.directories:
        return {"type": "directory", "oid": commit.directories[path], "size": 0, "path": path}
    blob = commit.files.get(path)
    return _file_entry(blob) if blob else None


def _file_entry(blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": blob.oid, "size": blob.size, "path": blob.path}
    if blob.sha256:
        entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": blob.pointer_size}
    return entry


def _phantom(name: str) -> dict[str, Any]:
    return {"type": "file", "oid": PHANTOM_OID, "size": 0, "path": name}


def _expansion(repository: Repository, revision: Revision, entry: dict[str, Any]) -> dict[str, Any]:
    """The keys that `expand` adds. The last commit is always the revision's."""
    title = commit_title(repository, revision.label)
    last = {"id": revision.commit.sha, "title": title, "date": repository.date(revision.label)}
    if entry["type"] == "directory":
        return {"lastCommit": last}
    found = repository.settings.scans.get(entry["path"], {})
    level = found.get("level", "safe")
    scan = {"status": "safe", "message": "No security issues detected"}
    imports = {"status": level, "message": "", "pickleImports": found.get("imports", [])}
    status = {"status": level, "avScan": scan, "pickleImportScan": imports}
    return {"lastCommit": last, "securityFileStatus": status}


def commit_title(repository: Repository, label: str) -> str:
    """The title of a label's commit."""
    default = f"Upload {label}" if label in repository.settings.parents else "initial commit"
    return repository.settings.titles.get(label, default)
