"""Models into the catalog: one, or a list of which no bad line stops the rest."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpux.catalog.catalog import Action, Catalog
from gpux.catalog.describing import drafted
from gpux.catalog.record import Record
from gpux.catalog.rules import checked_overrides
from gpux.errors import CancelledError, GpuxError, RateLimitError
from gpux.managers.base import ModelManager
from gpux.managers.registry import manager_for
from gpux.model.reference import ModelRef, Reference
from gpux.model.values import Value
from gpux.store import Store
from gpux.system.cancel import CancelToken
from gpux.system.settings import Settings

PARALLEL = 4  #: models that are asked for at once


@dataclass(frozen=True)
class ImportOutcome(Value):
    """How one import ended: with a record, or with an error."""

    reference: str  #: as it was given
    record: Record | None = None
    action: Action | None = None  #: what was, or with ``dry_run`` would be, done
    error: GpuxError | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values; exactly one of ``record`` and ``error`` is not null."""
        return {
            "reference": self.reference,
            "action": self.action,
            "record": self.record.to_dict() if self.record else None,
            "error": self.error.to_dict() if self.error else None,
        }


def import_model(
    ref: Reference,
    overrides: Mapping[str, Any] | None = None,
    *,
    catalog: Catalog | Path | None = None,
    settings: Settings | None = None,
    manager: ModelManager | None = None,
    dry_run: bool = False,
    cancel: CancelToken | None = None,
) -> Record:
    """Write what is known of a model into the catalog; no weights travel.

    A model that is there already is described anew; what was said of it before stays. Of a gated model without a token
    the record holds what its page tells, and ``unknown`` why it holds no more.

    >>> import_model("mistralai/Mixtral-8x7B-v0.1", {"name": "mixtral", "context": "32k"}).facts.parameters
    46702792704

    Args:
        ref: any form that :meth:`ModelRef.parse` accepts.
        overrides: field -> what holds in place of what the source tells, e.g. ``{"parameters": "70B"}``, and ``name``,
            ``description`` and ``defaults``; None ends an override. See :data:`gpux.catalog.rules.RULES`.
        catalog: one, or the path of its file; by default that of the settings.
        settings: by default the environment's.
        manager: where the model comes from; by default the one that the reference's scheme names.
        dry_run: write nothing; the record is what would be written.
        cancel: ends it.

    Raises:
        UsageError: an unknown field (``details["field"]``), or a value of another type or range; nothing was asked.
        ManagerError: nothing at all is known of the model; the subclass says why.
        StorageError: the catalog cannot be written.
        CancelledError: ``cancel`` was set.
    """
    settings = settings or Settings.from_env()
    given = checked_overrides(overrides or {})
    importing = _Importing(_opened(catalog, settings), settings, given, dry_run, cancel or CancelToken())
    record, _ = importing.one(ModelRef.parse(ref), manager)
    return record


def import_models(
    refs: Iterable[Reference],
    overrides: Mapping[str, Any] | None = None,
    *,
    catalog: Catalog | Path | None = None,
    settings: Settings | None = None,
    dry_run: bool = False,
    cancel: CancelToken | None = None,
) -> list[ImportOutcome]:
    """Import each as :func:`import_model` does, a few at once; one outcome for each, in their order.

    Repeated ones are imported once. After an answer that the Hub limits requests, the rest is not asked.

    Raises:
        UsageError: an override that cannot be meant.
        CancelledError: ``cancel`` was set; what was imported before stays.
    """
    settings = settings or Settings.from_env()
    given = checked_overrides(overrides or {})
    stop = (cancel or CancelToken()).child()
    importing = _Importing(_opened(catalog, settings), settings, given, dry_run, stop)
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="gpux-import") as pool:
        try:
            return list(pool.map(importing.outcome, dict.fromkeys(refs)))
        finally:
            stop.cancel()
            pool.shutdown(wait=False, cancel_futures=True)


class _Importing:
    """Imports that share a catalog, managers, and what is stored."""

    def __init__(
        self, catalog: Catalog, settings: Settings, given: Mapping[str, Any], dry_run: bool, stop: CancelToken
    ) -> None:
        self._catalog, self._settings, self._given = catalog, settings, given
        self._dry_run, self._stop = dry_run, stop
        self._managers: dict[str, ModelManager] = {}
        self._stored: set[tuple[str, str]] | None = None
        self._lock = threading.Lock()
        self._over: RateLimitError | None = None

    def outcome(self, ref: Reference) -> ImportOutcome:
        self._stop.check()
        try:
            if self._over is not None:
                raise self._over
            record, action = self.one(ModelRef.parse(ref))
        except CancelledError:
            raise
        except GpuxError as exc:
            if isinstance(exc, RateLimitError):
                self._over = exc
            return ImportOutcome(str(ref), error=exc)
        return ImportOutcome(str(ref), record, action)

    def one(self, ref: ModelRef, manager: ModelManager | None = None) -> tuple[Record, Action]:
        from gpux.describe import describe_model

        manager = manager or self._manager(ref.scheme)
        found = describe_model(ref, self._settings, manager=manager, cancel=self._stop)
        record = drafted(found, ref, self._settings)
        if (record.scheme, record.id) in self._runnable():
            record = replace(record, status="pulled")
        write = self._catalog.preview if self._dry_run else self._catalog.put
        return write(record, self._given)

    def _manager(self, scheme: str) -> ModelManager:
        with self._lock:
            if scheme not in self._managers:
                self._managers[scheme] = manager_for(scheme, self._settings)
            return self._managers[scheme]

    def _runnable(self) -> set[tuple[str, str]]:
        """What the store has variants of; read once."""
        with self._lock:
            if self._stored is None:
                models = Store(self._settings.store).models()
                self._stored = {(model.manifest.scheme, model.id) for model in models}
            return self._stored


def _opened(catalog: Catalog | Path | None, settings: Settings) -> Catalog:
    return catalog if isinstance(catalog, Catalog) else Catalog(catalog, settings=settings)
