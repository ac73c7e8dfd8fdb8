"""Adds models to the catalog: one, several, or the results of a search."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from gpux.catalog.catalog import Action, Catalog
from gpux.catalog.describing import record_of
from gpux.catalog.record import Record
from gpux.catalog.rules import checked_overrides
from gpux.describe import describe_model
from gpux.errors import CancelledError, GpuxError, RateLimitError, UsageError
from gpux.huggingface.manager import PAGE, HuggingFaceManager
from gpux.huggingface.search import SearchQuery, Sort
from gpux.managers.base import ModelManager
from gpux.managers.registry import manager_for
from gpux.model.reference import ModelRef, Reference
from gpux.model.tasks import task_named
from gpux.model.values import Value
from gpux.store import Store
from gpux.system.cancel import CancelToken
from gpux.system.settings import Settings

PARALLEL = 4  #: models that are described at once


@dataclass(frozen=True)
class ImportOutcome(Value):
    """The result of one import: a record or an error."""

    reference: str  #: as the caller wrote it
    record: Record | None = None
    action: Action | None = None  #: with ``dry_run``, the action that an import would take
    error: GpuxError | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values; exactly one of ``record`` and ``error`` is not null."""
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
    """Add a model to the catalog: its metadata, without weights.

    A model that is already in the catalog is updated and its overrides are kept. For a gated model without a token the
    record has the facts of the model's page, and ``unknown`` states why the others are missing.

    >>> import_model("mistralai/Mixtral-8x7B-v0.1", {"name": "mixtral", "context": "32k"}).facts.parameters
    46702792704

    Args:
        ref: any form that :meth:`ModelRef.parse` accepts.
        overrides: field -> value that replaces the reported one, e.g. ``{"parameters": "70B"}``, and ``name``,
            ``description`` and ``defaults``; None removes an override. See :data:`gpux.catalog.rules.RULES`.
        catalog: a catalog or the path of its file; default: that of the settings.
        settings: default: those of the environment.
        manager: default: the manager of the reference's scheme.
        dry_run: return the record without writing it.
        cancel: cancels the import.

    Raises:
        UsageError: an unknown field (``details["field"]``), or a value of another type or range; no request was sent.
        ManagerError: nothing is known of the model; the subclass states why.
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
    """Import models as :func:`import_model` does, :data:`PARALLEL` at once; outcomes are in the order of ``refs``.

    Duplicates are imported once. After the Hub answers 429 (rate limit), the remaining models are not requested.

    Raises:
        UsageError: an override is invalid.
        CancelledError: ``cancel`` was set; earlier imports are kept.
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
    """Imports that share a catalog, managers and the list of stored models."""

    def __init__(
        self, catalog: Catalog, settings: Settings, given: Mapping[str, Any], dry_run: bool, stop: CancelToken
    ) -> None:
        self._catalog, self._settings, self._given = catalog, settings, given
        self._dry_run, self._stop = dry_run, stop
        self._managers: dict[str, ModelManager] = {}
        self._stored: set[tuple[str, str]] | None = None
        self._lock = threading.Lock()
        self._rate_limit: RateLimitError | None = None

    def outcome(self, ref: Reference) -> ImportOutcome:
        self._stop.check()
        try:
            if self._rate_limit is not None:
                raise self._rate_limit
            record, action = self.one(ModelRef.parse(ref))
        except CancelledError:
            raise
        except GpuxError as exc:
            if isinstance(exc, RateLimitError):
                self._rate_limit = exc
            return ImportOutcome(str(ref), error=exc)
        return ImportOutcome(str(ref), record, action)

    def one(self, ref: ModelRef, manager: ModelManager | None = None) -> tuple[Record, Action]:
        manager = manager or self._manager(ref.scheme)
        found = describe_model(ref, settings=self._settings, manager=manager, cancel=self._stop)
        record = record_of(found, ref, self._settings)
        if (record.scheme, record.id) in self._stored_models():
            record = replace(record, status="pulled")
        write = self._catalog.preview if self._dry_run else self._catalog.put
        return write(record, self._given)

    def _manager(self, scheme: str) -> ModelManager:
        with self._lock:
            if scheme not in self._managers:
                self._managers[scheme] = manager_for(scheme, self._settings)
            return self._managers[scheme]

    def _stored_models(self) -> set[tuple[str, str]]:
        """Scheme and id of the models in the store; read once."""
        with self._lock:
            if self._stored is None:
                models = Store(self._settings.store).models()
                self._stored = {(model.manifest.scheme, model.id) for model in models}
            return self._stored


def _opened(catalog: Catalog | Path | None, settings: Settings) -> Catalog:
    return catalog if isinstance(catalog, Catalog) else Catalog(catalog, settings=settings)


def discover(
    text: str,
    *,
    sort: Sort = "trending",
    limit: int = 20,
    settings: Settings | None = None,
    manager: HuggingFaceManager | None = None,
) -> list[str]:
    """Search the Hub: ids of models for a task if ``text`` names one, else of models whose name contains ``text``.

    If the search by task finds nothing, the search by name is tried.

    Raises:
        UsageError: ``text`` is empty, or ``limit`` is below 1.
        OfflineError: offline.
        ManagerError: the Hub refuses; the subclass states why.
    """
    if not text.strip() or limit < 1:
        raise UsageError("a search needs a text and a limit of at least 1")
    hub = manager or HuggingFaceManager(settings)
    task = task_named(text)
    queries = [SearchQuery(task=task, sort=sort)] if task else []
    for query in (*queries, SearchQuery(text.strip(), sort=sort)):
        if found := list(islice(hub.iter_models(query, page=min(limit, PAGE)), limit)):
            return [info.id for info in found]
    return []
