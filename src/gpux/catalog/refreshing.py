"""Updates records: one request per record checks the commit; models with a new commit are described again."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gpux.catalog.catalog import Catalog
from gpux.catalog.describing import record_of, renewed_facts
from gpux.catalog.record import FACTS, Facts, Record
from gpux.describe import describe_model
from gpux.errors import (
    ONLINE_HINT,
    CancelledError,
    DisabledModelError,
    GpuxError,
    ModelNotFoundError,
    OfflineError,
    RateLimitError,
    RevisionNotFoundError,
    UsageError,
)
from gpux.managers.base import ModelManager
from gpux.managers.registry import manager_for
from gpux.model.reference import ModelRef, Reference
from gpux.model.values import Value
from gpux.system.cancel import CancelToken
from gpux.system.settings import Settings

PARALLEL = 4
LOCAL = "local"
_GONE = (ModelNotFoundError, RevisionNotFoundError, DisabledModelError)

#: changed: described again; current: same commit; gone: the model was deleted; unknown: see the error
Outcome = Literal["current", "changed", "gone", "unknown"]


@dataclass(frozen=True)
class Refreshed(Value):
    """The result of refreshing one record."""

    reference: str
    outcome: Outcome
    record: Record  #: after the refresh
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)  #: fact -> before, after
    error: GpuxError | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values, with the commit instead of the record."""
        values = super().to_dict()
        del values["record"]
        return {**values, "commit": self.record.commit, "error": self.error.to_dict() if self.error else None}


def refresh(
    refs: Iterable[Reference] | None = None,
    *,
    catalog: Catalog | Path | None = None,
    settings: Settings | None = None,
    cancel: CancelToken | None = None,
) -> list[Refreshed]:
    """Check the commits of records and describe models again whose commit changed; overrides and uses are kept.

    Sends one request per record, :data:`PARALLEL` at once; its answer also renews downloads, likes and access. An
    incomplete record (no token, no network) is described again if that may complete it. After the Hub answers 429 (rate
    limit), the remaining records are not requested.

    Args:
        refs: records to refresh; default: all.
        catalog: a catalog or the path of its file; default: that of the settings.
        settings: default: those of the environment.
        cancel: cancels the refresh.

    Raises:
        NotStoredError: one of ``refs`` has no record.
        StorageError: the catalog cannot be read or written.
        CancelledError: ``cancel`` was set.
    """
    settings = settings or Settings.from_env()
    opened = catalog if isinstance(catalog, Catalog) else Catalog(catalog, settings=settings)
    records = opened.records() if refs is None else opened.select(refs)
    stop = (cancel or CancelToken()).child()
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="gpux-refresh") as pool:
        try:
            return list(pool.map(_Refreshing(opened, settings, stop).one, records))
        finally:
            stop.cancel()
            pool.shutdown(wait=False, cancel_futures=True)


class _Refreshing:
    """One refresh of several records; stops sending requests after a rate limit."""

    def __init__(self, catalog: Catalog, settings: Settings, stop: CancelToken) -> None:
        self._catalog, self._settings, self._stop = catalog, settings, stop
        self._managers: dict[str, ModelManager] = {}
        self._lock = threading.Lock()
        self._rate_limit: RateLimitError | None = None

    def one(self, record: Record) -> Refreshed:
        self._stop.check()
        try:
            return self._refreshed(record)
        except CancelledError:
            raise
        except _GONE as exc:
            self._catalog.mark(record.reference, "gone", exc.message)
            return Refreshed(record.reference, "gone", replace(record, status="gone", reason=exc.message), error=exc)
        except GpuxError as exc:
            if isinstance(exc, RateLimitError):
                self._rate_limit = exc
            return Refreshed(record.reference, "unknown", record, error=exc)

    def _refreshed(self, record: Record) -> Refreshed:
        ref = ModelRef.parse(record.reference)
        self._check_possible(record)
        manager = self._manager(ref.scheme)
        if record.scheme == LOCAL:
            return self._described(record, ref, manager)
        info = manager.resolve(ref, cancel=self._stop)
        if info.commit != record.commit or info.id != record.id or self._may_be_completed(record):
            return self._described(record, ref, manager)
        facts = renewed_facts(record.reported, info)
        if facts == record.reported and record.status != "gone":
            return Refreshed(record.reference, "current", record)
        now = replace(self._catalog.get(record.reference), reported=facts, status="new")
        written, _ = self._catalog.put(now)
        return Refreshed(record.reference, "current", written, _changes(record.reported, facts))

    def _described(self, record: Record, ref: ModelRef, manager: ModelManager) -> Refreshed:
        found = describe_model(ref, settings=self._settings, manager=manager, cancel=self._stop)
        draft = record_of(found, ref, self._settings)
        now = self._catalog.move(record.reference, draft)
        changes = _changes(record.reported, now.reported)
        same = now.commit == record.commit and not changes and now.reference == record.reference
        return Refreshed(now.reference, "current" if same else "changed", now, changes)

    def _may_be_completed(self, record: Record) -> bool:
        """Whether describing an incomplete record again may help; for a gated model only with a token."""
        return record.partial and (record.reported.gated is None or self._settings.token is not None)

    def _check_possible(self, record: Record) -> None:
        if self._rate_limit is not None:
            raise self._rate_limit
        if record.scheme != LOCAL and self._settings.offline:
            raise OfflineError("offline", hint=ONLINE_HINT)
        if record.endpoint not in (None, self._settings.endpoint):
            raise UsageError(
                f"{record.reference} comes from the Hub at {record.endpoint}, but {self._settings.endpoint} is in use",
                hint=f"Set HF_ENDPOINT={record.endpoint} to refresh it.",
            )

    def _manager(self, scheme: str) -> ModelManager:
        with self._lock:
            if scheme not in self._managers:
                self._managers[scheme] = manager_for(scheme, self._settings)
            return self._managers[scheme]


def _changes(before: Facts, after: Facts) -> dict[str, tuple[Any, Any]]:
    pairs = {name: (getattr(before, name), getattr(after, name)) for name in FACTS}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
