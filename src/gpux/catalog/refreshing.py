"""Keeping records current: one request for each, and a new description of those alone whose commit is another."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gpux.catalog.catalog import Catalog
from gpux.catalog.describing import drafted, moved_facts
from gpux.catalog.record import FACTS, Facts, Record
from gpux.errors import (
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

#: changed: described again; current: the same commit; gone: there is no such model any more; unknown: see the error
Outcome = Literal["current", "changed", "gone", "unknown"]


@dataclass(frozen=True)
class Refreshed(Value):
    """How a record stands to its source."""

    reference: str
    outcome: Outcome
    record: Record  #: as it is now
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)  #: fact -> before, after
    error: GpuxError | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values, with the commit in place of the record."""
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
    """Ask the sources of records for their commits, and describe again what changed; overrides and uses stay.

    One request for each record, a few at once; its answer also renews downloads, likes and access. A record that could
    not be made whole before (no token, no network) is described again where that may help. After an answer that the
    Hub limits requests, the rest is not asked.

    Args:
        refs: only these; by default every record.
        catalog: one, or the path of its file; by default that of the settings.
        settings: by default the environment's.
        cancel: ends it.

    Raises:
        NotStoredError: one of ``refs`` is not in the catalog.
        StorageError: the catalog cannot be read or written.
        CancelledError: ``cancel`` was set.
    """
    settings = settings or Settings.from_env()
    kept = catalog if isinstance(catalog, Catalog) else Catalog(catalog, settings=settings)
    records = kept.records() if refs is None else kept.select(refs)
    stop = (cancel or CancelToken()).child()
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="gpux-refresh") as pool:
        try:
            return list(pool.map(_Refreshing(kept, settings, stop).one, records))
        finally:
            stop.cancel()
            pool.shutdown(wait=False, cancel_futures=True)


class _Refreshing:
    """One refresh; knows when asking on is of no use."""

    def __init__(self, catalog: Catalog, settings: Settings, stop: CancelToken) -> None:
        self._catalog, self._settings, self._stop = catalog, settings, stop
        self._managers: dict[str, ModelManager] = {}
        self._lock = threading.Lock()
        self._over: RateLimitError | None = None

    def one(self, record: Record) -> Refreshed:
        self._stop.check()
        try:
            return self._asked(record)
        except CancelledError:
            raise
        except _GONE as exc:
            self._catalog.mark(record.reference, "gone", exc.message)
            return Refreshed(record.reference, "gone", replace(record, status="gone", reason=exc.message), error=exc)
        except GpuxError as exc:
            if isinstance(exc, RateLimitError):
                self._over = exc
            return Refreshed(record.reference, "unknown", record, error=exc)

    def _asked(self, record: Record) -> Refreshed:
        ref = ModelRef.parse(record.reference)
        self._refuse(record)
        manager = self._manager(ref.scheme)
        if record.scheme == LOCAL:
            return self._described(record, ref, manager)
        info = manager.resolve(ref, cancel=self._stop)
        if info.commit != record.commit or info.id != record.id or self._may_be_made_whole(record):
            return self._described(record, ref, manager)
        facts = moved_facts(record.told, info)
        if facts == record.told and record.status != "gone":
            return Refreshed(record.reference, "current", record)
        now = replace(self._catalog.get(record.reference), told=facts, status="new")
        written, _ = self._catalog.put(now)
        return Refreshed(record.reference, "current", written, _changes(record.told, facts))

    def _described(self, record: Record, ref: ModelRef, manager: ModelManager) -> Refreshed:
        from gpux.describe import describe_model

        found = describe_model(ref, self._settings, manager=manager, cancel=self._stop)
        draft = drafted(found, ref, self._settings)
        now = self._catalog.move(record.reference, draft)
        changes = _changes(record.told, now.told)
        same = now.commit == record.commit and not changes and now.reference == record.reference
        return Refreshed(now.reference, "current" if same else "changed", now, changes)

    def _may_be_made_whole(self, record: Record) -> bool:
        """A token may open what was closed; without one, a gated model tells what it told."""
        return record.partial and (record.told.gated is None or self._settings.token is not None)

    def _refuse(self, record: Record) -> None:
        if self._over is not None:
            raise self._over
        if record.scheme != LOCAL and self._settings.offline:
            raise OfflineError("offline", hint="Leave out --offline, and unset HF_HUB_OFFLINE if it is set.")
        if record.endpoint not in (None, self._settings.endpoint):
            raise UsageError(
                f"{record.reference} is of the Hub at {record.endpoint}, and {self._settings.endpoint} is in use",
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
