"""Types of providers and the prefixes of their models, without importing those that gpux has."""

from __future__ import annotations

from functools import cache

from gpux.chat.values import ProviderConfig
from gpux.system.plugins import registered

#: Providers without a table in the file, the first one with the highest priority. They need no settings.
DEFAULT_PROVIDERS = ("ollama", "huggingface")
_PREFIXES = {"ollama": "ollama:", "huggingface": "hf:", "openai": "openai:"}
_GROUP = "gpux.chat_providers"


def provider_types() -> list[str]:
    """All types, those of other packages included."""
    return sorted({*_PREFIXES, *registered(_GROUP, "type of chat provider")})


def prefix_of(provider: ProviderConfig) -> str | None:
    """The prefix of a provider's models, with the colon; None: its type is unknown."""
    return provider.prefix or _default_prefix(provider.type or provider.name)


@cache
def _default_prefix(kind: str) -> str | None:
    if kind in _PREFIXES:
        return _PREFIXES[kind]
    point = registered(_GROUP, "type of chat provider").get(kind)
    found: str | None = None if point is None else point.load().default_prefix
    return found
