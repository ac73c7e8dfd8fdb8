"""The catalog: records of models, pulled or not, with their facts and the user's overrides.

One SQLite file, by default ``catalogue.db`` in ``settings.home``. Names are loaded on first use, so that
:mod:`gpux.catalog.events`, which pulls and runs import, does not load the database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Catalog": "gpux.catalog.catalog",
    "Facts": "gpux.catalog.record",
    "ImportOutcome": "gpux.catalog.importing",
    "Record": "gpux.catalog.record",
    "Refreshed": "gpux.catalog.refreshing",
    "discover": "gpux.catalog.importing",
    "import_model": "gpux.catalog.importing",
    "import_models": "gpux.catalog.importing",
    "record_status": "gpux.catalog.events",
    "record_use": "gpux.catalog.events",
    "refresh": "gpux.catalog.refreshing",
    "to_json": "gpux.catalog.exporting",
    "to_yaml": "gpux.catalog.exporting",
}

__all__ = [
    "Catalog",
    "Facts",
    "ImportOutcome",
    "Record",
    "Refreshed",
    "discover",
    "import_model",
    "import_models",
    "record_status",
    "record_use",
    "refresh",
    "to_json",
    "to_yaml",
]

if TYPE_CHECKING:
    from gpux.catalog.catalog import Catalog
    from gpux.catalog.events import record_status, record_use
    from gpux.catalog.exporting import to_json, to_yaml
    from gpux.catalog.importing import ImportOutcome, discover, import_model, import_models
    from gpux.catalog.record import Facts, Record
    from gpux.catalog.refreshing import Refreshed, refresh


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value
