"""Staying current: which stored models are behind the branch they were pulled by, and pulling those again.

What a pull recorded (name -> commit) is compared with what the source says now, by one request for each model and
revision. Asking changes nothing here; :func:`update` pulls by the same names, so that what is stored moves on as any
pull would move it. The former commits stay until ``gpux prune``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from gpux.errors import (
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
from gpux.model.reference import ModelRef, Reference
from gpux.model.values import Value
from gpux.model.variant import StoredModel
from gpux.pull.api import pull_model
from gpux.store import Store
from gpux.system.cancel import CancelToken
from gpux.system.progress import ProgressCallback
from gpux.system.settings import Settings
from gpux.upkeep.followed import LOCAL, Answer, Followed, all_followed, named

PARALLEL_REQUESTS = 4
_GONE = (ModelNotFoundError, RevisionNotFoundError, DisabledModelError)

Status = Literal["current", "outdated", "gone", "unknown"]


@dataclass(frozen=True)
class Currency(Value):
    """How a stored commit stands to the name that it was pulled by."""

    reference: str  #: what pulls it
    scheme: str
    id: str
    revision: str | None  #: as it was recorded; None is the default branch
    status: Status  #: gone: there is no such model or revision any more; unknown: ``error`` tells why
    commit: str  #: that is stored
    new_commit: str | None = None  #: of the name now
    last_modified: str | None = None  #: ISO 8601: when the source last changed
    tasks: tuple[str, ...] = ()  #: that the commit is stored for
    renamed_to: str | None = None  #: the model's id now, where it is another
    error: GpuxError | None = None  #: of a status gone or unknown
    variants: tuple[StoredModel, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON-able ones, with the error's own; without the variants."""
        return {**super().to_dict(), "error": self.error.to_dict() if self.error else None}

    def would_pull(self) -> list[dict[str, Any]]:
        """What :func:`update` would pull again, each variant as JSON-able values; nothing unless it is outdated."""
        if self.status != "outdated":
            return []
        told = {"reference": self.reference, "commit": self.commit, "new_commit": self.new_commit}
        return [{**told, "task": one.task, "precision": one.manifest.precision} for one in self.variants]


@dataclass(frozen=True)
class Update(Value):
    """What became of one variant of an outdated commit."""

    reference: str
    task: str
    precision: str
    commit: str  #: the former one, which stays until it is pruned
    model: StoredModel | None = None  #: at the new commit; None where the update failed
    error: GpuxError | None = None

    def to_dict(self) -> dict[str, Any]:
        """The values as JSON-able ones, with ``updated``."""
        values = {"model": self.model.to_dict() if self.model else None}
        error = self.error.to_dict() if self.error else None
        return {**super().to_dict(), **values, "updated": self.model is not None, "error": error}


def outdated(
    refs: Iterable[Reference] | None = None,
    *,
    settings: Settings | None = None,
    store: Store | None = None,
    managers: Mapping[str, ModelManager] | None = None,
    cancel: CancelToken | None = None,
) -> list[Currency]:
    """Compare stored commits with what their branches and tags are now; changes nothing.

    One request for each model and revision, a few at once. What cannot be asked is ``unknown`` and stops no other;
    after an answer that the Hub limits requests, or if nothing answers at all, the rest is not asked. Offline nobody
    is asked.

    Args:
        refs: only these; by default every stored model that was pulled by a branch, tag or pull request. A model
            that was pulled by a commit is listed only if it is named here, and is never outdated. A folder of this
            machine, too, only if it is named: all of it is read.
        settings: by default the environment's.
        store: by default the one of the settings.
        managers: by scheme; by default the registered ones.
        cancel: set it to end the call with ``CancelledError``.

    Raises:
        NotStoredError: one of ``refs`` is not stored.
        CancelledError: ``cancel`` was set.
    """
    settings = settings or Settings.from_env()
    kept = store or Store(settings.store)
    followed = all_followed(kept) if refs is None else named(kept, map(ModelRef.parse, refs))
    survey = _Survey(settings, dict(managers or {}), (cancel or CancelToken()).child())
    answers = survey.ask_all({name.key: name.ref for name in followed if name.answer is None})
    found = [_currency(name, name.answer or answers[name.key]) for name in followed]
    return sorted(found, key=lambda currency: (currency.scheme, currency.id, currency.revision or ""))


def update(
    found: Iterable[Currency],
    *,
    settings: Settings | None = None,
    store: Store | None = None,
    pull: Callable[..., StoredModel] = pull_model,
    progress: ProgressCallback | bool | None = None,
    cancel: CancelToken | None = None,
) -> list[Update]:
    """Pull what :func:`outdated` found outdated again: each variant for its task and precision, in the same way.

    One that fails is told in the answer and stops no other. Former commits stay, and run by their commit, until
    ``gpux prune``.

    Args:
        found: what :func:`outdated` returned, or a part of it; what is not outdated is passed over.
        settings: by default the environment's.
        store: by default the one of the settings.
        pull: called as :func:`gpux.pull_model` is.
        progress: as for :func:`gpux.pull_model`.
        cancel: set it to end the call with ``CancelledError``; what was pulled before is kept.

    Raises:
        CancelledError: ``cancel`` was set.
    """
    settings = settings or Settings.from_env()
    common = {"settings": settings, "store": store or Store(settings.store), "progress": progress, "cancel": cancel}
    behind = [currency for currency in found if currency.status == "outdated"]
    return [_update(currency, variant, pull, common) for currency in behind for variant in currency.variants]


class _Survey:
    """Asks the sources, a few at once; knows when asking on is of no use."""

    def __init__(self, settings: Settings, managers: dict[str, ModelManager], stop: CancelToken) -> None:
        self._settings, self._stop = settings, stop
        self._managers: dict[str, ModelManager | GpuxError] = {**managers}
        self._answered = False
        self._failures: list[NetworkError] = []
        self._over: GpuxError | None = None

    def ask_all(self, wanted: Mapping[Any, ModelRef]) -> dict[Any, Answer]:
        """The answer to each; an error is one."""
        for scheme in {ref.scheme for ref in wanted.values()} - set(self._managers):
            try:
                self._managers[scheme] = manager_for(scheme, self._settings)
            except GpuxError as exc:  # the package that brought it is gone
                self._managers[scheme] = exc
        with ThreadPoolExecutor(PARALLEL_REQUESTS, thread_name_prefix="gpux-outdated") as pool:
            try:
                return dict(zip(wanted, pool.map(self._ask, wanted.values()), strict=True))
            finally:
                self._stop.cancel()
                pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, ref: ModelRef) -> Answer:
        self._stop.check()
        manager = self._managers[ref.scheme]
        if isinstance(manager, GpuxError):
            return manager
        if manager.settings.offline and ref.scheme != LOCAL:
            return OfflineError("offline", hint="Leave out --offline, and unset HF_HUB_OFFLINE if it is set.")
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
        nobody = len(self._failures) >= PARALLEL_REQUESTS and not self._answered
        if isinstance(exc, RateLimitError) or nobody:
            self._over = exc


def _currency(name: Followed, answer: Answer) -> Currency:
    ref, own = name.ref, name.variants
    tasks = tuple(dict.fromkeys(model.task for model in own))
    if isinstance(answer, GpuxError):
        status: Status = "gone" if isinstance(answer, _GONE) else "unknown"
        return Currency(
            str(ref), ref.scheme, ref.id, ref.revision, status, name.commit, tasks=tasks, error=answer, variants=own
        )
    return Currency(
        reference=str(ref),
        scheme=ref.scheme,
        id=ref.id,
        revision=ref.revision,
        status="current" if answer.commit == name.commit else "outdated",
        commit=name.commit,
        new_commit=answer.commit,
        last_modified=answer.last_modified,
        tasks=tasks,
        renamed_to=answer.id if answer.id != ref.id else None,
        variants=own,
    )


def _update(
    currency: Currency, variant: StoredModel, pull: Callable[..., StoredModel], common: Mapping[str, Any]
) -> Update:
    manifest = variant.manifest
    told = (currency.reference, variant.task, manifest.precision, variant.commit)
    try:
        model = pull(
            ModelRef(currency.scheme, currency.id, currency.revision),
            task=variant.task,
            precision=manifest.precision,
            convert=manifest.recipe.is_converted,
            allow_inexact=manifest.proof.status == "inexact",
            **common,
        )
    except CancelledError:
        raise
    except GpuxError as exc:
        return Update(*told, error=exc)
    if model.commit == variant.commit:  # the pull fell back to what is stored
        message = f"{currency.reference} is still at {variant.commit[:12]}: the source could not be asked again"
        return Update(*told, error=UnavailableError(message, hint="Run `gpux update` again."))
    return Update(*told, model=model)
