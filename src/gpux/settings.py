"""Settings: what the environment says, read here and nowhere else, passed down and never global.

The names and the order are those of huggingface_hub (its "Environment variables" page), so that both find
the same cache and the same token.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from gpux.errors import UsageError
from gpux.types import Value

DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE = frozenset({"1", "on", "yes", "true"})


@dataclass(frozen=True, slots=True)
class Settings(Value):
    """Folders, endpoint, token and switches of one use of gpux."""

    home: Path  #: gpux's own folder: store, logs, toolchains
    toolchains: Path  #: where converters' environments are made
    hf_cache: Path  #: the source cache, shared with every other Hugging Face tool (``HF_HUB_CACHE``)
    token_path: Path  #: the Hugging Face token file
    endpoint: str = DEFAULT_ENDPOINT  #: the Hub's origin, without a trailing slash
    token: str | None = field(default=None, repr=False)
    offline: bool = False
    timeout: float = 10.0  #: seconds to wait for the Hub's answer to one request
    torch_index: str | None = None  #: extra package index that pip asks for torch when it makes a toolchain

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Read the environment; every keyword that is not None replaces what it says.

        Raises:
            UsageError: a variable holds what cannot be meant.
        """
        env = os.environ if environ is None else environ
        hf_home = _hf_home(env)
        home = _path(env.get("GPUX_HOME")) or _default_home(env)
        token_path = _path(env.get("HF_TOKEN_PATH")) or hf_home / "token"
        settings = cls(
            home=home,
            toolchains=_path(env.get("GPUX_TOOLCHAINS")) or home / "toolchains",
            hf_cache=_path(env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE")) or hf_home / "hub",
            token_path=token_path,
            endpoint=_endpoint(env.get("HF_ENDPOINT") or DEFAULT_ENDPOINT),
            token=_token(env, token_path),
            offline=_flag(env.get("HF_HUB_OFFLINE") or env.get("TRANSFORMERS_OFFLINE")),
            timeout=_seconds(env, "GPUX_TIMEOUT", 10.0),
            torch_index=env.get("GPUX_TORCH_INDEX") or None,
        )
        return settings.with_overrides(**overrides)

    def with_overrides(self, **overrides: Any) -> Self:
        """A copy with every keyword that is not None in place."""
        known = {f.name for f in fields(self)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise UsageError(f"unknown settings: {', '.join(unknown)}", hint=f"known: {', '.join(sorted(known))}")
        home = overrides.get("home")
        if home is not None and self.toolchains == self.home / "toolchains":
            overrides = {"toolchains": Path(home) / "toolchains", **overrides}  # they stay below it
        return replace(self, **{name: value for name, value in overrides.items() if value is not None})

    @property
    def store(self) -> Path:
        """Where runnable variants live."""
        return self.home / "store"

    @property
    def logs(self) -> Path:
        """Where converters' own output is kept."""
        return self.home / "logs"


def _default_home(env: Mapping[str, str]) -> Path:
    if env.get("XDG_CACHE_HOME") and sys.platform.startswith("linux"):
        return Path(env["XDG_CACHE_HOME"]) / "gpux"
    from platformdirs import user_cache_path  # deferred: `import gpux` must stay light

    return user_cache_path("gpux", appauthor=False)


def _hf_home(env: Mapping[str, str]) -> Path:
    explicit = _path(env.get("HF_HOME"))
    if explicit is not None:
        return explicit
    base = _path(env.get("XDG_CACHE_HOME")) or Path.home() / ".cache"
    return base / "huggingface"


def _token(env: Mapping[str, str], token_path: Path) -> str | None:
    """First of ``HF_TOKEN``, ``HUGGING_FACE_HUB_TOKEN`` and the token file; an empty one does not count."""
    if _flag(env.get("HF_HUB_DISABLE_IMPLICIT_TOKEN")):
        return None
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        value = env.get(name, "").strip()
        if value:
            return value
    try:
        return token_path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _endpoint(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise UsageError(f"HF_ENDPOINT={value!r} is no http or https URL", hint=f"Try HF_ENDPOINT=https://{value}.")
    return value.rstrip("/")


def _path(value: str | None) -> Path | None:
    return Path(os.path.expandvars(value)).expanduser() if value else None


def _flag(value: str | None) -> bool:
    return (value or "").strip().lower() in _TRUE


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    value = env.get(name)
    if not value:
        return default
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < math.inf:
        raise UsageError(f"{name}={value!r} is not a number of seconds above zero")
    return seconds
