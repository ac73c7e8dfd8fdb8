"""Settings from environment variables, which are read in this module only; settings are passed on, never global.

Packages above with variables of their own, such as those of chat providers, read them by :func:`variables`.

Names and precedence are those of huggingface_hub (its page "Environment variables"), so that both use the same cache
and token. White space around a value and one pair of quotes, which Docker's ``--env-file`` and batch files leave in it,
are removed; a value that is empty then counts as not set.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, TypedDict, Unpack
from urllib.parse import urlsplit

from gpux.errors import StorageError, UsageError
from gpux.model.values import Value
from gpux.system import keystore
from gpux.system.proxies import Proxies, masked, read_proxies

DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE = frozenset({"1", "on", "yes", "true"})
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt]i?)b?|b)?", re.IGNORECASE)
LONGEST_TIMEOUT = 86_400.0  #: seconds; the operating system refuses much longer ones
LARGEST = 2**63 - 1  #: bytes
#: Hosts that usually serve http: this machine, private networks, and any host with a port other than 443.
_LOCAL = re.compile(r"(localhost|127\.|10\.|192\.168\.|\[)|[^/]*:(?!443\b)\d")
#: Characters of a token, which is sent in an HTTP header.
TOKEN_CHARACTERS = re.compile(r"[\x21-\x7e]+")
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
    chat_config: Path | None


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
    ca_bundle: Path | None = None  #: certificates to trust, where SSL_CERT_FILE and SSL_CERT_DIR are not set
    torch_index: str | None = None  #: extra package index from which pip installs torch into a toolchain
    max_cache: int | None = None  #: most bytes of all variants in the store; a pull evicts the least recently used
    job_events: Path | None = None  #: file for the progress events of a background job, set by its parent
    chat_config: Path | None = None  #: file with the configuration of chat providers; None: ``chat.toml`` in ``home``

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Unpack[SettingsOverrides]) -> Self:
        """Read the environment; every keyword that is not None replaces the value from it.

        Raises:
            UsageError: the value of a variable is invalid.
        """
        env = _clean_values(environ)
        hf_home = _hf_home(env)
        home = _path(env, "GPUX_HOME") or _default_home(env)
        token_path = _path(env, "HF_TOKEN_PATH") or hf_home / "token"
        settings = cls(
            home=home,
            toolchains=_path(env, "GPUX_TOOLCHAINS") or home / "toolchains",
            hf_cache=_path(env, "HF_HUB_CACHE") or _path(env, "HUGGINGFACE_HUB_CACHE") or hf_home / "hub",
            token_path=token_path,
            endpoint=checked_endpoint("HF_ENDPOINT", env.get("HF_ENDPOINT", DEFAULT_ENDPOINT)),
            token=_token(env, token_path),
            offline=_flag(env.get("HF_HUB_OFFLINE") or env.get("TRANSFORMERS_OFFLINE")),
            timeout=_seconds("GPUX_TIMEOUT", env.get("GPUX_TIMEOUT", "10")),
            ca_bundle=_ca_bundle(env),
            torch_index=env.get("GPUX_TORCH_INDEX"),
            max_cache=parse_bytes("GPUX_MAX_CACHE", env["GPUX_MAX_CACHE"]) if "GPUX_MAX_CACHE" in env else None,
            job_events=_path(env, "GPUX_JOB_EVENTS"),
            chat_config=_path(env, "GPUX_CONFIG"),
        )
        return settings.with_overrides(**overrides)

    def with_overrides(self, **overrides: Unpack[SettingsOverrides]) -> Self:
        """A copy in which every keyword that is not None replaces a field.

        Raises:
            UsageError: a keyword is unknown, or its value is invalid.
        """
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
        for name, check in _CHECKS.items():
            if name in chosen:
                chosen[name] = check(name, str(chosen[name]))
        return replace(self, **chosen)

    def to_env(self) -> dict[str, str]:
        """The environment variables for a process with the same settings; the token is left out."""
        optional = {
            "REQUESTS_CA_BUNDLE": self.ca_bundle,
            "GPUX_TORCH_INDEX": self.torch_index,
            "GPUX_MAX_CACHE": self.max_cache,
            "GPUX_JOB_EVENTS": self.job_events,
            "GPUX_CONFIG": self.chat_config and self.chat_config.absolute(),
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


def variables(names: Iterable[str], environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Those of the variables that are set, with clean values, for a package that has settings of its own.

    Args:
        names: of the variables.
        environ: in place of the environment of the process.
    """
    env = _clean_values(environ)
    return {name: env[name] for name in names if name in env}


def proxies(environ: Mapping[str, str] | None = None) -> Proxies:
    """The proxies of the environment; they are checked when a request needs one."""
    return read_proxies(_clean_values(environ, keep_empty=True))


def certificates(environ: Mapping[str, str] | None = None) -> tuple[str, Path] | None:
    """Name and value of OpenSSL's variable with certificates to trust: ``SSL_CERT_FILE``, else ``SSL_CERT_DIR``.

    Raises:
        UsageError: the value is not a path.
    """
    env = _clean_values(environ)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if (path := _path(env, name)) is not None:
            return name, path
    return None


@contextmanager
def clean_environment(library: str, *prefixes: str) -> Iterator[None]:
    """Clean values in the process environment while ``library`` is imported, which reads it then.

    Args:
        library: its name, for the error.
        prefixes: of the names of its variables.

    Raises:
        UsageError: the import fails with a ``ValueError``, since one of its variables is invalid.
    """
    found = {name: value for name, value in os.environ.items() if name.startswith(prefixes)}
    changed = {name: value for name, value in found.items() if _clean(value) != value}
    try:
        for name, value in changed.items():
            os.environ[name] = _clean(value)
        yield
    except ValueError as exc:
        named = ", ".join(sorted(name for name in found if "TOKEN" not in name))
        hint = f"Correct or unset the invalid one of {named}."
        raise UsageError(f"{library} cannot be imported with the present environment: {exc}", hint=hint) from exc
    finally:
        os.environ.update(changed)


def _clean_values(environ: Mapping[str, str] | None, *, keep_empty: bool = False) -> dict[str, str]:
    """The environment with clean values; variables that are empty then are left out."""
    env = os.environ if environ is None else environ
    cleaned = ((name, _clean(value)) for name, value in env.items())
    return {name: value for name, value in cleaned if value or keep_empty}


def _clean(value: str) -> str:
    """The value without white space, a byte order mark and one pair of quotes around it."""
    value = value.strip().strip("\ufeff").strip()
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1].strip() if quoted else value


def _default_home(env: Mapping[str, str]) -> Path:
    if sys.platform.startswith("linux") and (base := _path(env, "XDG_CACHE_HOME")) is not None:
        return base / "gpux"
    from platformdirs import user_cache_path  # deferred, for the start-up time of `import gpux`

    return user_cache_path("gpux", appauthor=False)


def _hf_home(env: Mapping[str, str]) -> Path:
    explicit = _path(env, "HF_HOME")
    if explicit is not None:
        return explicit
    base = _path(env, "XDG_CACHE_HOME") or Path.home() / ".cache"
    return base / "huggingface"


def token_sources(token_path: Path, environ: Mapping[str, str] | None = None) -> Iterator[TokenSource]:
    """All sources that have a token, in order of precedence; empty ones are skipped.

    ``HF_TOKEN``, ``HUGGING_FACE_HUB_TOKEN``, the token file, and the system's key store if ``gpux auth login
    --keyring`` created its mark beside the token file; without the mark, keyring is not imported.

    Raises:
        StorageError: the key store does not return the token.
    """
    env = _clean_values(environ)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if name in env:
            yield TokenSource("environment", name, _one_line(env[name]))
    try:
        value = _one_line(token_path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        value = ""
    if value:
        yield TokenSource("file", str(token_path), value)
    if keystore.has_key_store_mark(token_path):
        kept = keystore.read(token_path)
        if kept:
            yield TokenSource("keyring", keystore.name(), kept)


def _one_line(token: str) -> str:
    """The token without line ends, as in huggingface_hub."""
    return token.replace("\r", "").replace("\n", "")


def _token(env: Mapping[str, str], token_path: Path) -> str | None:
    """The token of the source with the highest precedence.

    Raises:
        UsageError: a variable has it, and it contains characters that no header may contain. The same in the token file
            is an error when the token is used, so that ``gpux auth login`` can replace it.
    """
    if _flag(env.get("HF_HUB_DISABLE_IMPLICIT_TOKEN")):
        return None
    try:
        first = next(token_sources(token_path, env), None)
    except StorageError:  # commands without a token still run; `gpux auth status` reports it
        return None
    if first is not None and first.kind == "environment" and not TOKEN_CHARACTERS.fullmatch(first.token):
        raise UsageError(
            f"the value of {first.place} contains white space or non-ASCII characters: it is not a token",
            hint=f"Copy the token again from the Hub's page of tokens, or unset {first.place}.",
        )
    return first.token if first else None


def _ca_bundle(env: Mapping[str, str]) -> Path | None:
    """``REQUESTS_CA_BUNDLE``; ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``, which OpenSSL reads too, take precedence."""
    named = env.get("SSL_CERT_FILE") or env.get("SSL_CERT_DIR")
    return None if named else _path(env, "REQUESTS_CA_BUNDLE")


def checked_endpoint(name: str, value: str) -> str:
    """The address of a Hub in its normal form, without white space and slashes behind it.

    Raises:
        UsageError: it is not an http or https URL, or has a query, a fragment, a user name or a password.
    """
    url = _clean(value)
    shown = f"{name}={masked(url)!r}"
    default = f"Unset {name} to use {DEFAULT_ENDPOINT}." if name.isupper() else f"The default is {DEFAULT_ENDPOINT!r}."
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise UsageError(f"{shown} contains white space, and is not the address of a Hub", hint=default)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:  # an invalid port or IPv6 address
        raise UsageError(f"{shown} is not a URL: {exc}", hint=default) from exc
    if parts.scheme not in ("http", "https"):
        guess = f"Try {name}={'http' if _LOCAL.match(url) else 'https'}://{url}."
        raise UsageError(f"{shown} is not an http or https URL", hint=default if "://" in url else guess)
    if not host or port == 0:
        raise UsageError(f"{shown} names no host", hint=default)
    if "@" in parts.netloc:
        hint = f"Remove them, and set HF_TOKEN: {name}={parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        raise UsageError(f"{shown} contains a user name or a password, which error messages would show", hint=hint)
    if parts.query or parts.fragment:
        raise UsageError(
            f"{shown} has a query or a fragment", hint=f"Try {name}={url.partition('?')[0].partition('#')[0]}."
        )
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path}".rstrip("/")


def _path(env: Mapping[str, str], name: str) -> Path | None:
    """The path in a variable, with ``~`` and ``$NAME`` expanded; None where it is not set."""
    value = env.get(name)
    return expanded(name, value) if value else None


def expanded(name: str, value: str) -> Path:
    """A path with ``~`` and ``$NAME`` replaced.

    Raises:
        UsageError: ``~name`` stands for a user who does not exist; ``name`` is that of the variable or option.
    """
    try:
        return Path(os.path.expandvars(value)).expanduser()
    except RuntimeError as exc:  # ~name, and there is no such user
        raise UsageError(f"{name}={value!r} is not a path: {exc}", hint=f"Set {name} to an absolute path.") from exc


def _flag(value: str | None) -> bool:
    return (value or "").strip().lower() in _TRUE


def _seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise UsageError(
            f"{name}={value!r} must be a positive number of seconds, at most {LONGEST_TIMEOUT:.0f}",
            hint=f"Try {name}=10.",
        )
    return seconds


def parse_bytes(name: str, value: str) -> int:
    """A size in bytes: ``20GB``, ``1.5 TiB``, ``500000000``.

    Raises:
        UsageError: the value is not a size; ``name`` is that of its variable or option.
    """
    match = _SIZE.fullmatch(value)
    size = float(match[1]) * _UNITS[(match[2] or "").lower()] if match else 0
    if not 1 <= size <= LARGEST:
        raise UsageError(f"{name}={value!r} must be a positive size, at most 8 EiB", hint=f"Try {name}=20GB.")
    return int(size)


#: Field -> the check of a value that a caller passes.
_CHECKS: dict[str, Callable[[str, str], Any]] = {
    "endpoint": checked_endpoint,
    "timeout": _seconds,
    "max_cache": parse_bytes,
    "token": lambda name, value: value.strip(),
    **dict.fromkeys(
        ("home", "toolchains", "hf_cache", "token_path", "ca_bundle", "job_events", "chat_config"), expanded
    ),
}
