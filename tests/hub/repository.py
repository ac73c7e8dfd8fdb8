"""One repository: its settings, its refs, its commits."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.hub.contents import Commit, LfsRule, read_commit
from tests.hub.messages import HubError
from tests.hub.settings import LFS_PATTERNS, SETTINGS_FILE, Options, RepoSettings

MAIN = "main"
REVISIONS = "revisions"


class CommitCache:
    """Commits that have been read, by folder.

    A folder is read again when it is replaced or its entry changes, not when a file in it is overwritten: commits do
    not change. New content is written as a new label, to which a branch is moved.
    """

    def __init__(self) -> None:
        self._commits: dict[tuple[str, Path, int, int, LfsRule], Commit] = {}
        self._lock = threading.Lock()

    def read(self, repo_id: str, folder: Path, rule: LfsRule) -> Commit:
        """The commit of a folder."""
        stat = folder.stat()
        key = (repo_id, folder, stat.st_ino, stat.st_mtime_ns, rule)
        with self._lock:
            if key not in self._commits:
                self._commits[key] = read_commit(repo_id, folder, rule)
            return self._commits[key]

    def clear(self) -> None:
        """Removes all commits, after files were changed in place."""
        with self._lock:
            self._commits.clear()


@dataclass(frozen=True)
class Ref:
    """A ref: `name` as users write it, `full` as git does (`refs/heads/main`)."""

    name: str
    full: str
    label: str


@dataclass(frozen=True)
class Revision:
    """A commit together with the label of the folder that it was read from."""

    label: str
    commit: Commit


class Repository:
    """A repository as it is on disk; created for every request."""

    def __init__(
        self, repo_id: str, folder: Path, cache: CommitCache, options: Options, moved: Mapping[str, str]
    ) -> None:
        self.id = repo_id
        self.folder = folder
        settings = RepoSettings.load(folder)
        self.settings = replace(settings, branches={**settings.branches, **moved})
        self._cache = cache
        self._options = options

    @property
    def author(self) -> str | None:
        """The organization or user before the slash; None for a legacy id."""
        return self.id.split("/")[0] if "/" in self.id else None

    def label_folder(self, label: str) -> Path | None:
        """The folder of a label's files, or None. A label is a plain name, which cannot lead out of the folder."""
        if not label or label in {".", ".."} or "/" in label or "\\" in label:
            return None
        folder = self.folder / REVISIONS / label
        if not folder.is_dir() and label == MAIN:
            folder = self.folder / MAIN
        return folder if folder.is_dir() else None

    def labels(self) -> list[str]:
        """All labels, including those without a ref, whose commits can be requested by hash."""
        revisions = self.folder / REVISIONS
        entries = list(revisions.iterdir()) if revisions.is_dir() else []
        found = {entry.name for entry in entries if entry.is_dir()}
        if self.label_folder(MAIN):
            found.add(MAIN)
        return sorted(found)

    def commit(self, label: str) -> Commit:
        """The commit of a label. Raises HubError (404) if its folder is missing."""
        folder = self.label_folder(label)
        if folder is None:
            raise HubError(404, f"Invalid rev id: {label}", "RevisionNotFound")
        patterns = self.settings.lfs_patterns
        threshold = self.settings.lfs_threshold
        rule = LfsRule(
            LFS_PATTERNS if patterns is None else patterns,
            self._options.lfs_threshold if threshold is None else threshold,
        )
        return self._cache.read(self.id, folder, rule)

    def branches(self) -> list[Ref]:
        """All branches, `main` first."""
        labels = {MAIN: MAIN, **self.settings.branches}
        return [Ref(name, f"refs/heads/{name}", label) for name, label in labels.items()]

    def tags(self) -> list[Ref]:
        """All git tags."""
        return [Ref(name, f"refs/tags/{name}", label) for name, label in self.settings.git_tags.items()]

    def pull_requests(self) -> list[Ref]:
        """The heads of all pull requests."""
        requests = self.settings.pull_requests
        return [Ref(number, f"refs/pr/{number}", label) for number, label in requests.items()]

    def resolve(self, revision: str) -> Revision:
        """The commit of a branch, tag, full ref or 40-digit hash. Raises HubError (404) without one."""
        for ref in (*self.branches(), *self.tags()):
            if revision in (ref.name, ref.full):
                return Revision(ref.label, self.commit(ref.label))
        for ref in self.pull_requests():
            if revision == ref.full:
                return Revision(ref.label, self.commit(ref.label))
        if len(revision) == 40:
            for label in self.labels():
                if (commit := self.commit(label)).sha == revision:
                    return Revision(label, commit)
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def history(self, label: str) -> Iterator[str]:
        """The label and the labels of its ancestors, newest first."""
        seen: set[str] = set()
        step: str | None = label
        while step is not None and step not in seen:
            seen.add(step)
            yield step
            step = self.settings.parents.get(step)

    def date(self, label: str) -> str:
        """The date of a commit: a day after its parent's, the first at the repository's creation."""
        created = datetime.fromisoformat(self.settings.created_at).astimezone(UTC)
        date = created + timedelta(days=len(list(self.history(label))) - 1)
        return date.strftime("%Y-%m-%dT%H:%M:%S.") + f"{date.microsecond // 1000:03}Z"


def is_repository(folder: Path) -> bool:
    """Whether a folder is a repository rather than an organization."""
    return any((folder / name).exists() for name in (SETTINGS_FILE, REVISIONS, MAIN))
