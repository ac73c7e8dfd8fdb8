"""Settings from environment variables, which are read in this module only; settings are passed on, never global.

Names and precedence are those of huggingface_hub (its page "Environment variables"), so that both use the same cache
and token.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, Unpack

from gpux.errors import StorageError, UsageError
from gpux.model.values import Value
from gpux.system import keystore

DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE = frozenset({"1", "on", "yes", "true"})
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt]i?)b?|b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True, slots=True)
class TokenSource(Value):
    """One place that holds a token."""

    kind: Literal["environment", "file", "keyring", "argument"]
    place: str  #: name of the variable, path of the file, or name of the key store
    token: str = field(repr=False)


class SettingsOverrides(TypedDict, total=False):
    """The fields of :class:`Settings` as keywords; None keeps a field."""

    home: Path | None
    toolchains: Path | None
    hf_cache: Path | None
    token_path: Path | None
    endpoint: str | None
    token: str | None
    offline: bool | None
    timeout: float | None
    ca_bundle: Path | None
    torch_index: str | None
    max_cache: int | None
    job_events: Path | None


@dataclass(frozen=True, slots=True)
class Settings(Value):
    """Folders, endpoint, token and switches."""

    home: Path  #: gpux's own folder: store, logs, toolchains
    toolchains: Path  #: folder of the toolchains, the converters' environments
    hf_cache: Path  #: the source cache, which all Hugging Face tools share (``HF_HUB_CACHE``)
    token_path: Path  #: the Hugging Face token file
    endpoint: str = DEFAULT_ENDPOINT  #: the Hub's origin, without a trailing slash
    token: str | None = field(default=None, repr=False)
    offline: bool = False
    timeout: float = 10.0  #: seconds to wait for the Hub's response to one request
    ca_bundle: Path | None = None  #: certificates to trust; SSL_CERT_FILE is read by httpx2 itself
    torch_index: str | None = None  #: extra package index from which pip installs torch into a toolchain
    max_cache: int | None = None  #: most bytes of all variants in the store; a pull evicts the least recently used
    job_events: Path | None = None  #: file for the progress events of a background job, set by its parent

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Unpack[SettingsOverrides]) -> Self:
        """Read the environment; every keyword that is not None replaces the value from it.

        Raises:
            UsageError: the value of a variable is invalid.
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
            ca_bundle=_ca_bundle(env),
            torch_index=env.get("GPUX_TORCH_INDEX") or None,
            max_cache=_bytes(env, "GPUX_MAX_CACHE"),
            job_events=_path(env.get("GPUX_JOB_EVENTS")),
        )
        return settings.with_overrides(**overrides)

    def with_overrides(self, **overrides: Unpack[SettingsOverrides]) -> Self:
        """A copy in which every keyword that is not None replaces a field."""
        known = {f.name for f in fields(self)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise UsageError(
                f"unknown settings: {', '.join(unknown)}", hint=f"Known settings: {', '.join(sorted(known))}"
            )
        home = overrides.get("home")
        if home is not None and self.toolchains == self.home / "toolchains":
            overrides.setdefault("toolchains", Path(home) / "toolchains")  # the default: below home
        chosen: dict[str, Any] = {name: value for name, value in overrides.items() if value is not None}
        return replace(self, **chosen)

    def to_env(self) -> dict[str, str]:
        """The environment variables for a process with the same settings; the token is left out."""
        optional = {
            "REQUESTS_CA_BUNDLE": self.ca_bundle,
            "GPUX_TORCH_INDEX": self.torch_index,
            "GPUX_MAX_CACHE": self.max_cache,
            "GPUX_JOB_EVENTS": self.job_events,
        }
        return {
            "GPUX_HOME": str(self.home.absolute()),
            "GPUX_TOOLCHAINS": str(self.toolchains.absolute()),
            "HF_HUB_CACHE": str(self.hf_cache.absolute()),
            "HF_TOKEN_PATH": str(self.token_path.absolute()),
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "1" if self.offline else "0",
            "GPUX_TIMEOUT": repr(self.timeout),
            **{name: str(value) for name, value in optional.items() if value is not None},
        }

    @property
    def store(self) -> Path:
        """Folder of the store."""
        return self.home / "store"

    @property
    def logs(self) -> Path:
        """Folder of the logs of converters."""
        return self.home / "logs"


def _default_home(env: Mapping[str, str]) -> Path:
    if env.get("XDG_CACHE_HOME") and sys.platform.startswith("linux"):
        return Path(env["XDG_CACHE_HOME"]) / "gpux"
    from platformdirs import user_cache_path  # deferred, for the start-up time of `import gpux`

    return user_cache_path("gpux", appauthor=False)


def _hf_home(env: Mapping[str, str]) -> Path:
    explicit = _path(env.get("HF_HOME"))
    if explicit is not None:
        return explicit
    base = _path(env.get("XDG_CACHE_HOME")) or Path.home() / ".cache"
    return base / "huggingface"


def token_sources(token_path: Path, environ: Mapping[str, str] | None = None) -> Iterator[TokenSource]:
    """All sources that have a token, in order of precedence; empty ones are skipped.

    ``HF_TOKEN``, ``HUGGING_FACE_HUB_TOKEN``, the token file, and the system's key store if ``gpux auth login
    --keyring`` created its mark beside the token file; without the mark, keyring is not imported.

    Raises:
        StorageError: the key store does not return the token.
    """
    env = os.environ if environ is None else environ
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        value = env.get(name, "").strip()
        if value:
            yield TokenSource("environment", name, value)
    try:
        value = token_path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        value = ""
    if value:
        yield TokenSource("file", str(token_path), value)
    if keystore.has_key_store_mark(token_path):
        kept = keystore.read(token_path)
        if kept:
            yield TokenSource("keyring", keystore.name(), kept)


def _token(env: Mapping[str, str], token_path: Path) -> str | None:
    """The token of the source with the highest precedence."""
    if _flag(env.get("HF_HUB_DISABLE_IMPLICIT_TOKEN")):
        return None
    try:
        first = next(token_sources(token_path, env), None)
    except StorageError:  # commands without a token still run; `gpux auth status` reports it
        return None
    return first.token if first else None


def _ca_bundle(env: Mapping[str, str]) -> Path | None:
    """``REQUESTS_CA_BUNDLE``, which httpx2 does not read; ``SSL_CERT_FILE``, which it reads, takes precedence."""
    named = env.get("SSL_CERT_FILE") or env.get("SSL_CERT_DIR")
    return None if named else _path(env.get("REQUESTS_CA_BUNDLE"))


def _endpoint(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise UsageError(f"HF_ENDPOINT={value!r} is not an http or https URL", hint=f"Try HF_ENDPOINT=https://{value}.")
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
        raise UsageError(f"{name}={value!r} must be a positive number of seconds")
    return seconds


def _bytes(env: Mapping[str, str], name: str) -> int | None:
    """A size in bytes: ``20GB``, ``1.5 TiB``, ``500000000``."""
    value = env.get(name, "").strip()
    if not value:
        return None
    match = _SIZE.fullmatch(value)
    size = int(float(match[1]) * _UNITS[(match[2] or "").lower()]) if match else 0
    if size <= 0:
        raise UsageError(f"{name}={value!r} must be a positive size", hint=f"Try {name}=20GB.")
    return size
