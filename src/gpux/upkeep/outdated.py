"""Finding stored models whose branch or tag has moved since they were pulled, and pulling those again.

The commit that a pull recorded for a revision is compared with the commit at the source, by one request for each model
and revision. :func:`update` pulls the same revisions again. Former commits are kept until ``gpux prune``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from gpux.errors import (
    ONLINE_HINT,
    CancelledError,
    DisabledModelError,
    GpuxError,
    ModelNotFoundError,
    NetworkError,
    OfflineError,
    RateLimitError,
    RevisionNotFoundError,
    UnavailableError,
)
from gpux.managers.base import ModelManager
from gpux.managers.registry import manager_for
from gpux.model.precisions import known_precision
from gpux.model.reference import ModelRef, Reference
from gpux.model.values import Value
from gpux.model.variant import StoredModel
from gpux.pull.api import pull_model
from gpux.store import Store
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback
from gpux.system.settings import Settings
from gpux.upkeep.revisions import LOCAL, Answer, PulledRevision, pulled_revisions, revisions_of

PARALLEL_REQUESTS = 4
_GONE = (ModelNotFoundError, RevisionNotFoundError, DisabledModelError)

Status = Literal["current", "outdated", "gone", "unknown"]


@dataclass(frozen=True)
class RevisionStatus(Value):
    """The stored commit of a pulled revision, compared with its commit at the source."""

    reference: str  #: a reference that pulls the revision
    scheme: str
    id: str
    revision: str | None  #: as recorded by the pull; None is the default branch
    status: Status  #: ``gone``: the model or revision does not exist any more; ``unknown``: see ``error``
    commit: str  #: the stored one
    new_commit: str | None = None  #: the one at the source
    last_modified: str | None = None  #: ISO 8601: when the source last changed
    tasks: tuple[str, ...] = ()  #: for which the commit is stored
    renamed_to: str | None = None  #: the model's present id, where it has changed
    error: GpuxError | None = None  #: of the status ``gone`` or ``unknown``
    variants: tuple[StoredModel, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values with the error, without the variants."""
        return {**super().to_dict(), "error": self.error.to_dict() if self.error else None}

    def would_pull(self) -> list[dict[str, Any]]:
        """The variants that :func:`update` would pull again, as JSON-able values; none if not outdated."""
        if self.status != "outdated":
            return []
        common = {"reference": self.reference, "commit": self.commit, "new_commit": self.new_commit}
        return [{**common, "task": one.task, "precision": one.manifest.precision} for one in self.variants]


@dataclass(frozen=True)
class Update(Value):
    """The result of updating one variant of an outdated commit."""

    reference: str
    task: str
    precision: str
    commit: str  #: the former one, which is kept until ``gpux prune``
    model: StoredModel | None = None  #: at the new commit; None where the update failed
    error: GpuxError | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-able values, with ``updated``."""
        values = {"model": self.model.to_dict() if self.model else None}
        error = self.error.to_dict() if self.error else None
        return {**super().to_dict(), **values, "updated": self.model is not None, "error": error}


def outdated(
    refs: Iterable[Reference] | None = None,
    *,
    precision: str | None = None,
    settings: Settings | None = None,
    store: Store | None = None,
    managers: Mapping[str, ModelManager] | None = None,
    cancel: CancelToken | None = None,
) -> list[RevisionStatus]:
    """Compare stored commits with the commits of their branches and tags at the source; changes nothing.

    One request for each model and revision, a few concurrently. A request that fails makes the status ``unknown`` and
    does not stop the others; after a rate limit, or if no request succeeds, no more requests are made. Offline, no
    request is made.

    Args:
        refs: only these; by default every stored model that was pulled by a branch, tag or pull request. A model
            that was pulled by commit is listed only if it is named here, and is never outdated. A local folder is
            listed only if it is named here, since all its files are read. The status of a reference with a precision
            has the variants in it only, so that :func:`update` pulls only those.
        precision: only the variants in this precision.
        settings: by default the environment's.
        store: by default the one of the settings.
        managers: by scheme; by default the registered ones.
        cancel: set it to end the call with ``CancelledError``.

    Raises:
        NotStoredError: one of ``refs`` is not stored.
        UsageError: the precision is unknown, or differs from that of a reference.
        CancelledError: ``cancel`` was set.
    """
    settings = settings or Settings.from_env()
    kept = store or Store(settings.store)
    name = known_precision(precision) if precision is not None else None
    if refs is None:
        revisions = pulled_revisions(kept, name)
    else:
        revisions = revisions_of(kept, [ModelRef.parse(ref).in_precision(name) for ref in refs])
    requests = _Requests(settings, dict(managers or {}), (cancel or CancelToken()).child())
    answers = requests.resolve_all({one.key: one.ref for one in revisions if one.answer is None})
    found = [_status(one, one.answer or answers[one.key]) for one in revisions]
    return sorted(found, key=lambda status: (status.scheme, status.id, status.revision or ""))


def update(
    found: Iterable[RevisionStatus],
    *,
    settings: Settings | None = None,
    store: Store | None = None,
    pull: Callable[..., StoredModel] = pull_model,
    progress: ProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
) -> list[Update]:
    """Pull outdated models again: each variant for its task and precision, converted if it was converted.

    A failure is reported in the result and does not stop the others. Former commits are kept until ``gpux prune``, and
    can be run by commit.

    Args:
        found: what :func:`outdated` returned, or a part of it; entries that are not outdated are skipped.
        settings: by default the environment's.
        store: by default the one of the settings.
        pull: called with the arguments of :func:`gpux.pull_model`, in its place.
        progress: as for :func:`gpux.pull_model`.
        cancel: set it to end the call with ``CancelledError``; what was pulled before is kept.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    settings = settings or Settings.from_env()
    common = {"settings": settings, "store": store or Store(settings.store), "progress": progress, "cancel": cancel}
    behind = [status for status in found if status.status == "outdated"]
    return [_update(status, variant, pull, common) for status in behind for variant in status.variants]


class _Requests:
    """Resolves references at their sources, a few concurrently, until further requests would fail as well."""

    def __init__(self, settings: Settings, managers: dict[str, ModelManager], stop: CancelToken) -> None:
        self._settings, self._stop = settings, stop
        self._managers: dict[str, ModelManager | GpuxError] = {**managers}
        self._answered = False
        self._failures: list[NetworkError] = []
        self._over: GpuxError | None = None

    def resolve_all(self, wanted: Mapping[Any, ModelRef]) -> dict[Any, Answer]:
        """The answer to each request, or its error."""
        for scheme in {ref.scheme for ref in wanted.values()} - set(self._managers):
            try:
                self._managers[scheme] = manager_for(scheme, self._settings)
            except GpuxError as exc:  # the package that registered it was uninstalled
                self._managers[scheme] = exc
        with ThreadPoolExecutor(PARALLEL_REQUESTS, thread_name_prefix="gpux-outdated") as pool:
            try:
                return dict(zip(wanted, pool.map(self._resolve, wanted.values()), strict=True))
            finally:
                self._stop.cancel()
                pool.shutdown(wait=False, cancel_futures=True)

    def _resolve(self, ref: ModelRef) -> Answer:
        self._stop.check()
        manager = self._managers[ref.scheme]
        if isinstance(manager, GpuxError):
            return manager
        if manager.settings.offline and ref.scheme != LOCAL:
            return OfflineError("offline", hint=ONLINE_HINT)
        if self._over is not None:
            return self._over
        try:
            info = manager.resolve(ref, cancel=self._stop)
        except CancelledError:
            raise
        except GpuxError as exc:
            self._consider(exc)
            return exc
        self._answered = True
        return info

    def _consider(self, exc: GpuxError) -> None:
        if isinstance(exc, NetworkError):
            self._failures.append(exc)
        else:
            self._answered = True
        unreachable = len(self._failures) >= PARALLEL_REQUESTS and not self._answered
        if isinstance(exc, RateLimitError) or unreachable:
            self._over = exc


def _status(revision: PulledRevision, answer: Answer) -> RevisionStatus:
    ref, own = revision.ref, revision.variants
    tasks = tuple(dict.fromkeys(model.task for model in own))
    if isinstance(answer, GpuxError):
        status: Status = "gone" if isinstance(answer, _GONE) else "unknown"
        return RevisionStatus(
            str(ref), ref.scheme, ref.id, ref.revision, status, revision.commit, tasks=tasks, error=answer, variants=own
        )
    return RevisionStatus(
        reference=str(ref),
        scheme=ref.scheme,
        id=ref.id,
        revision=ref.revision,
        status="current" if answer.commit == revision.commit else "outdated",
        commit=revision.commit,
        new_commit=answer.commit,
        last_modified=answer.last_modified,
        tasks=tasks,
        renamed_to=answer.id if answer.id != ref.id else None,
        variants=own,
    )


def _update(
    status: RevisionStatus, variant: StoredModel, pull: Callable[..., StoredModel], common: Mapping[str, Any]
) -> Update:
    manifest = variant.manifest
    identity = (status.reference, variant.task, manifest.precision, variant.commit)
    try:
        model = pull(
            ModelRef(status.scheme, status.id, status.revision),
            task=variant.task,
            precision=manifest.precision,
            convert=manifest.recipe.is_converted,
            allow_inexact=manifest.proof.status == "inexact",
            **common,
        )
    except CancelledError:
        raise
    except GpuxError as exc:
        return Update(*identity, error=exc)
    if model.commit == variant.commit:  # the pull fell back to the stored variant
        message = f"{status.reference} is still at {variant.commit[:12]}: the source did not answer the second request"
        return Update(*identity, error=UnavailableError(message, hint="Run `gpux update` again."))
    return Update(*identity, model=model)
