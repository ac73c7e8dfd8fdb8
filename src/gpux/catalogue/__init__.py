"""The catalogue: records of models, pulled or not, with what is known of each and what its user says of it.

One SQLite file, ``catalogue.db`` in gpux's home by default. Names are loaded on first use: what a run needs of this
package, :func:`~gpux.catalogue.events.record_use`, is light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "Catalogue": "gpux.catalogue.catalogue",
    "Facts": "gpux.catalogue.record",
    "ImportOutcome": "gpux.catalogue.importing",
    "Record": "gpux.catalogue.record",
    "Refreshed": "gpux.catalogue.refreshing",
    "discover": "gpux.catalogue.discovery",
    "import_model": "gpux.catalogue.importing",
    "import_models": "gpux.catalogue.importing",
    "pull_recorded": "gpux.catalogue.events",
    "record_status": "gpux.catalogue.events",
    "record_use": "gpux.catalogue.events",
    "refresh": "gpux.catalogue.refreshing",
    "to_json": "gpux.catalogue.exporting",
    "to_yaml": "gpux.catalogue.exporting",
}

__all__ = [
    "Catalogue",
    "Facts",
    "ImportOutcome",
    "Record",
    "Refreshed",
    "discover",
    "import_model",
    "import_models",
    "pull_recorded",
    "record_status",
    "record_use",
    "refresh",
    "to_json",
    "to_yaml",
]

if TYPE_CHECKING:
    from gpux.catalogue.catalogue import Catalogue
    from gpux.catalogue.discovery import discover
    from gpux.catalogue.events import pull_recorded, record_status, record_use
    from gpux.catalogue.exporting import to_json, to_yaml
    from gpux.catalogue.importing import ImportOutcome, import_model, import_models
    from gpux.catalogue.record import Facts, Record
    from gpux.catalogue.refreshing import Refreshed, refresh


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value
