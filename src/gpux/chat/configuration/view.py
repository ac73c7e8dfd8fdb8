"""A configuration as JSON-able values, by the keys of the file and without passwords."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gpux.chat.configuration.document import Document
from gpux.chat.configuration.resolve import Resolved
from gpux.chat.configuration.types import prefix_of
from gpux.chat.values import OPENAI, ChatConfiguration, ProviderConfig
from gpux.system.proxies import masked

#: Where an Ollama listens that has no settings.
OLLAMA = "http://127.0.0.1:11434"


def document(resolved: Resolved, database: Path, ollama: str | None) -> dict[str, Any]:
    """``configuration``, ``sources`` (key with dots -> ``FILE:LINE`` or a variable) and ``warnings``.

    Args:
        resolved: what is in force.
        database: file of the conversations where none is configured.
        ollama: ``OLLAMA_HOST``.
    """
    found = values(resolved.configuration, database, ollama)
    sources = {Document.dotted(key): place for key, place in resolved.sources.items()}
    if ollama:
        for name, one in resolved.configuration.providers.items():
            if found["providers"][name]["type"] == "ollama" and one.base_url is None:
                sources[Document.dotted(("providers", name, "base_url"))] = "OLLAMA_HOST"
    return {
        "configuration": found,
        "sources": sources,
        "warnings": [{**one.to_dict(), "text": str(one)} for one in resolved.warnings],
    }


def values(configuration: ChatConfiguration, database: Path, ollama: str | None) -> dict[str, Any]:
    """Every key with its value in force; the arguments are those of :func:`document`."""
    found = _plain(configuration)
    found["database_url"] = masked(found["database_url"] or f"sqlite:///{database}")
    for one in found["models"].values():  # its key has the name, and the prefix its provider
        del one["model_name"]
    for name, provider in configuration.providers.items():
        one = found["providers"][name] = _plain(in_force(provider, ollama))
        del one["name"]
    tables = ("providers", "model_defaults", "models")
    root = {name: value for name, value in found.items() if name not in tables}
    return {**root, **{name: found[name] for name in tables}}


def in_force(provider: ProviderConfig, ollama: str | None) -> ProviderConfig:
    """A provider with the type, the prefix and the address that are used where none is configured; no passwords.

    Args:
        provider: as configured.
        ollama: ``OLLAMA_HOST``.
    """
    kind = provider.type or provider.name
    defaults = {"ollama": ollama or OLLAMA, "openai": OPENAI}
    address = provider.base_url or defaults.get(kind)
    return msgspec.structs.replace(
        provider, type=kind, prefix=prefix_of(provider), base_url=None if address is None else masked(address)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return list(value) if isinstance(value, tuple) else value
