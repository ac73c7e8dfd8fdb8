"""A configuration as JSON-able values, by the keys of the file and without passwords."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gpux.chat.configuration.document import Document
from gpux.chat.configuration.resolve import Resolved
from gpux.chat.values import ChatConfiguration
from gpux.system.proxies import masked


def document(resolved: Resolved) -> dict[str, Any]:
    """``configuration``, ``sources`` (key with dots -> ``FILE:LINE`` or a variable) and ``warnings``."""
    return {
        "configuration": values(resolved.configuration),
        "sources": {Document.dotted(key): place for key, place in resolved.sources.items()},
        "warnings": [{**one.to_dict(), "text": str(one)} for one in resolved.warnings],
    }


def values(configuration: ChatConfiguration) -> dict[str, Any]:
    """Every key with its value in force."""
    found = _plain(configuration)
    if found["database_url"] is not None:
        found["database_url"] = masked(found["database_url"])
    for one in found["models"].values():  # its key has the name, and the prefix its provider
        del one["model_name"]
    for one in found["providers"].values():
        del one["name"]
    tables = ("providers", "model_defaults", "models")
    root = {name: value for name, value in found.items() if name not in tables}
    return {**root, **{name: found[name] for name in tables}}


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return list(value) if isinstance(value, tuple) else value
