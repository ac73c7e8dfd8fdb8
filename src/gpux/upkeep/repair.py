"""Repairing the damage that :func:`gpux.upkeep.inventory.verify_models` found, with as few downloads as possible.

Damaged blobs of the source cache are downloaded again, each at a commit that links to it. Damaged files of a variant
are copied from verified source files that have the hash in the manifest, such as all files of a shipped variant; a
graph that a converter wrote is converted and proven again. Repaired files are hashed again before they are reported as
repaired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gpux.errors import ONLINE_HINT, CancelledError, GpuxError, OfflineError
from gpux.managers.base import ModelManager
from gpux.managers.registry import manager_for
from gpux.model.info import ModelFile, ModelInfo
from gpux.model.reference import ModelRef
from gpux.model.values import Value
from gpux.model.variant import StoredFile, StoredModel, VariantKey
from gpux.pull.api import pull_model
from gpux.source_cache.removal import remove_unlinked
from gpux.source_cache.scan import CachedCommit, scan_model
from gpux.source_cache.verify import Part, SourceReport, verify_sources
from gpux.store import DamagedVariant, Store, VerifyReport
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback
from gpux.system.progress_argument import callback
from gpux.system.settings import Settings
from gpux.upkeep.inventory import HUB, Health

Method = Literal["fetched", "removed", "restored", "rebuilt"]


@dataclass(frozen=True)
class Repair(Value):
    """The result of repairing one damaged variant or repository of the source cache."""

    path: Path
    title: str  #: for a person
    method: Method | None  #: None: it is still damaged
    received: int  #: bytes of the files that were downloaded
    message: str
    hint: str | None = None

    @property
    def repaired(self) -> bool:
        """True if all its hashes are right again."""
        return self.method is not None

    def to_dict(self) -> dict[str, Any]:
        """The repair as JSON-able values, with ``repaired``."""
        return {"repaired": self.repaired, **super().to_dict()}


def repair_models(
    health: Health,
    *,
    settings: Settings | None = None,
    store: Store | None = None,
    progress: ProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
) -> list[Repair]:
    """Repair all damage: source files first, since variants are restored from them.

    A repair that fails, for example offline, is reported in the result and does not stop the others.

    Args:
        health: what :func:`verify_models` returned.
        settings: by default the environment's.
        store: by default the one of the settings.
        progress: as for :func:`gpux.pull_model`.
        cancel: set it to end the call with ``CancelledError``.

    Raises:
        CancelledError: ``cancel`` was set; each file is either unchanged or repaired.
    """
    settings = settings or Settings.from_env()
    repairer = _Repairer(settings, store or Store(settings.store), callback(progress), cancel or CancelToken())
    sources = zip(health.inventory.sources, health.sources, strict=True)
    variants = zip(health.inventory.variants, health.variants, strict=True)
    done = [repairer.source(part, report) for part, report in sources if not report.ok]
    done += [repairer.variant(model, report) for model, report in variants if not report.ok]
    return done + [repairer.unreadable(entry) for entry in health.inventory.damaged]


@dataclass(frozen=True)
class _Repairer:
    settings: Settings
    store: Store
    progress: ProgressCallback
    cancel: CancelToken

    def source(self, part: Part, report: SourceReport) -> Repair:
        title = f"source of {report.id}"
        bad = frozenset(problem.blob for problem in report.problems)
        before = self._blobs(report.id)
        unused = bad - {name for commit in part.commits for name in commit.blobs}

        def fetch() -> None:
            remove_unlinked(self.settings.hf_cache, report.id, unused)
            if self.settings.offline and bad - unused:
                raise OfflineError("offline: damaged files cannot be downloaded again", hint=ONLINE_HINT)
            manager = manager_for(HUB, self.settings)
            for commit in part.commits:
                self._fetch_again(manager, report.id, commit, self._still_bad(report.id, bad - unused))

        failure = _failure_of(fetch)
        left = self._still_bad(report.id, bad)
        received = self._received(report.id, before)
        if left or report.unreadable:
            why = failure.message if failure else report.unreadable or "the Hub has other files at these paths"
            message = f"still damaged, {len(left)} of {len(bad)}: {why}"
            return Repair(report.path, title, None, received, message, failure.hint if failure else None)
        method: Method = "fetched" if bad - unused else "removed"
        return Repair(report.path, title, method, received, _source_message(len(bad - unused), len(unused)))

    def variant(self, model: StoredModel, report: VerifyReport) -> Repair:
        manifest = model.manifest
        before = self._blobs(model.id)
        extra = sum(problem.kind == "extra" for problem in report.problems)
        methods: list[Method] = []

        def restore_or_rebuild() -> None:
            if self._restore(model, report):
                methods.append("restored" if extra < len(report.problems) else "removed")
            else:
                self._rebuild(model.key, allow_inexact=manifest.proof.status == "inexact")

        failure = _failure_of(restore_or_rebuild)
        method = methods[0] if methods else "rebuilt"
        return self._outcome(model.key, model.path, method, failure, self._received(model.id, before), extra)

    def unreadable(self, entry: DamagedVariant) -> Repair:
        key = self.store.key_of(entry.path)
        if key is None:
            message = "its manifest is damaged, and its path does not name a variant"
            return Repair(entry.path, entry.path.name, None, 0, message, "`gpux prune` removes it.")
        before = self._blobs(key.id)
        failure = _failure_of(lambda: self._rebuild(key, allow_inexact=False))
        return self._outcome(key, entry.path, "rebuilt", failure, self._received(key.id, before))

    def _outcome(
        self, key: VariantKey, path: Path, method: Method, failure: GpuxError | None, received: int, extra: int = 0
    ) -> Repair:
        title = str(key)
        whole = next((model for model in self.store.models() if model.path == path), None)
        if whole is not None and self.store.verify(whole).ok:
            return Repair(path, title, method, received, _variant_message(method, extra))
        if failure is not None:
            here = self.settings.offline and not isinstance(failure, OfflineError)
            message = f"offline, from files on this machine: {failure.message}" if here else failure.message
            return Repair(path, title, None, received, message, failure.hint)
        message = "its source now leads to another variant"
        return Repair(path, title, None, received, message, f"Pull it again with `gpux pull {key.id}:{key.precision}`.")

    def _still_bad(self, id: str, bad: frozenset[str]) -> frozenset[str]:
        """The blobs that are still damaged, or linked to and missing."""
        repository = scan_model(self.settings.hf_cache, id)
        if repository is None or not bad:
            return frozenset()
        (report,) = verify_sources([Part(repository, repository.commits)], only=bad, cancel=self.cancel)
        return frozenset(problem.blob for problem in report.problems)

    def _fetch_again(self, manager: ModelManager, id: str, commit: CachedCommit, bad: frozenset[str]) -> None:
        paths = {file.path: file.blob for file in commit.files if file.blob in bad}
        if not paths:
            return
        info = manager.resolve(ModelRef(HUB, id, commit.commit), cancel=self.cancel)
        served = [file.path for file in info.files if file.etag == paths.get(file.path, "")]
        # Under the id of the cache's folder, which may be older than the Hub's.
        manager.fetch(replace(info, id=id), served, progress=self.progress, cancel=self.cancel)

    def _restore(self, model: StoredModel, report: VerifyReport) -> bool:
        """Replace damaged files by copies of source files; True if that repaired all of them."""
        kinds = {problem.kind for problem in report.problems}
        if "manifest" in kinds or "" in {problem.file for problem in report.problems}:
            return False
        extra = [problem.file for problem in report.problems if problem.kind == "extra"]
        bad = [problem.file for problem in report.problems if problem.kind != "extra"]
        if not bad:
            self.store.restore(model, {}, extra, cancel=self.cancel)
            return True
        manager, ref = self._manager(model.manifest.scheme, model.id, model.commit)
        info = manager.resolve(ref, cancel=self.cancel)
        expected = {file.path: file for file in model.manifest.files}
        origins = {name: _origin(expected[name], info) for name in bad}
        paths = [path for path in origins.values() if path is not None]
        if info.commit != model.commit or len(paths) < len(bad):
            return False
        self._refuse_damaged_offline(info.scheme, info.id, {file.etag for file in info.files if file.path in paths})
        snapshot = manager.fetch(info, paths, progress=self.progress, cancel=self.cancel)
        sources = {name: snapshot.path / path for name, path in origins.items() if path is not None}
        return set(self.store.restore(model, sources, extra, cancel=self.cancel)) == set(bad)

    def _rebuild(self, key: VariantKey, *, allow_inexact: bool) -> None:
        manager, ref = self._manager(key.scheme, key.id, key.commit)
        if key.scheme != HUB and manager.resolve(ref, cancel=self.cancel).commit != key.commit:
            return  # the folder has changed: a new variant would not repair this one
        repository = scan_model(self.settings.hf_cache, key.id)
        commits = repository.at(key.commit) if repository is not None else ()
        self._refuse_damaged_offline(key.scheme, key.id, {name for commit in commits for name in commit.blobs})
        pull_model(
            ref,
            settings=self.settings,
            store=self.store,
            progress=self.progress,
            cancel=self.cancel,
            task=key.task,
            precision=key.precision,
            force=True,
            convert=key.recipe.is_converted,
            allow_inexact=allow_inexact,
        )

    def _refuse_damaged_offline(self, scheme: str, id: str, blobs: Iterable[str | None]) -> None:
        """Raise before a fetch, which deletes damaged blobs first, would lose them without a replacement."""
        if scheme == HUB and self.settings.offline:
            bad = self._still_bad(id, frozenset(blob for blob in blobs if blob is not None))
            if bad:
                raise OfflineError(f"offline, and {len(bad)} of its source files are damaged, too", hint=ONLINE_HINT)

    def _manager(self, scheme: str, id: str, commit: str) -> tuple[ModelManager, ModelRef]:
        """The manager, and the reference at the commit; a folder has its present content only."""
        return manager_for(scheme, self.settings), ModelRef(scheme, id, commit if scheme == HUB else None)

    def _blobs(self, id: str) -> dict[str, tuple[int, int, int]]:
        """The blobs of a model in the source cache: name -> inode, time and size."""
        repository = scan_model(self.settings.hf_cache, id)
        if repository is None:
            return {}
        return {blob.name: _stamp(repository.path / "blobs" / blob.name) for blob in repository.blobs}

    def _received(self, id: str, before: dict[str, tuple[int, int, int]]) -> int:
        return sum(stamp[2] for name, stamp in self._blobs(id).items() if before.get(name) != stamp)


def _failure_of(repair: Callable[[], None]) -> GpuxError | None:
    """The error of one repair, which does not stop the others."""
    try:
        repair()
    except CancelledError:
        raise
    except GpuxError as exc:
        return exc
    return None


def _stamp(blob: Path) -> tuple[int, int, int]:
    try:
        status = blob.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_mtime_ns, status.st_size


def _origin(stored: StoredFile, info: ModelInfo) -> str | None:
    """The source file that the variant's file is a copy of: same name in any folder, same size and hash."""
    return next((file.path for file in _same_name(stored, info.files) if _may_be(file, stored)), None)


def _same_name(stored: StoredFile, files: Iterable[ModelFile]) -> list[ModelFile]:
    found = [file for file in files if f"/{file.path}".endswith(f"/{stored.path}")]
    return sorted(found, key=lambda file: (file.path != stored.path, file.path))


def _may_be(file: ModelFile, stored: StoredFile) -> bool:
    return file.size in (None, stored.size) and file.sha256 in (None, stored.sha256)


def _source_message(fetched: int, removed: int) -> str:
    words = [f"{fetched} {'file' if fetched == 1 else 'files'} fetched again"] if fetched else []
    words += [f"{removed} removed that no commit uses"] if removed else []
    return ", ".join(words)


def _variant_message(method: Method, extra: int) -> str:
    """How a variant was repaired; ``extra`` is the number of files that its manifest does not list."""
    if method == "rebuilt":
        return "converted or checked again from its source files"
    words = ["copied from its source files"] if method == "restored" else []
    if extra:
        words.append(f"removed {extra} {'file that does' if extra == 1 else 'files that do'} not belong")
    return ", ".join(words)
