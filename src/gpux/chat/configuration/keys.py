"""The keys of the configuration file: their types, ranges and spellings.

They are the fields of the values of :mod:`gpux.chat.values`. A key that is added there is known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from gpux.chat.configuration.faults import nearest
from gpux.chat.values import ChatConfiguration, ChatOptions, ModelConfig, ProviderConfig
from gpux.errors import UsageError
from gpux.model.units import format_bytes
from gpux.system.settings import LARGEST, expanded, parse_bytes

Section = Literal["root", "provider", "model", "options"]
#: Tables of the file.
TABLES = ("providers", "models", "model_defaults")
#: Keys of a model that gpux applies to the models it runs itself; another server decides them for its own.
OF_LOCAL_MODELS = ("device", "precision", "max_memory", "enable_cache", "cache_directory")
_LEAST_MEMORY = 16_000_000
_DAY_MS = 86_400_000
_RANGES: dict[str, tuple[int, int]] = {
    "max_memory": (_LEAST_MEMORY, LARGEST),
    "timeout_ms": (1, _DAY_MS),
    "model_load_timeout_ms": (1, _DAY_MS),
    "stream_timeout_ms": (1, _DAY_MS),
    "health_check_interval_ms": (100, _DAY_MS),
    "memory_cleanup_interval_ms": (100, _DAY_MS),
    "retry_attempts": (0, 100),
    "retry_delay_ms": (0, 600_000),
    "max_concurrent_models": (1, 10_000),
    "priority": (-1_000_000, 1_000_000),
    "retention_days": (1, 36_500),
    "flush_ms": (10, 60_000),
}
#: Spellings of gpux's own devices and precisions, and of requests to other libraries.
DEVICES = {"coreml": "mps", "metal": "mps", "gpu": "cuda"}
PRECISIONS = {"fp32": "float32", "f32": "float32", "fp16": "float16", "f16": "float16", "half": "float16", "q8": "int8"}
PREFIX = re.compile(r"[a-z][a-z0-9_-]{0,31}:")
PROVIDER_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What people write, and what it is here.
_ELSEWHERE = {
    "api_key": "Keys do not belong into the file: name a variable by api_key_env, or an entry by api_key_keyring.",
    "url": "The address of the server is base_url.",
    "host": "The address of the server is base_url.",
    "provider": "The prefix of a model's name decides that.",
    "model_name": "The name of the table decides that.",
}


class InvalidValueError(ValueError):
    """The value of a key is invalid; ``hint`` is what to write instead."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@cache
def keys(section: Section) -> dict[str, Any]:
    """The keys of a section, with their types."""
    if section == "root":
        left_out: tuple[str, ...] = TABLES
        kind: Any = ChatConfiguration
    else:
        kind, left_out = {
            "provider": (ProviderConfig, ("name",)),
            "model": (ModelConfig, ("model_name", "provider", "options")),
            "options": (ChatOptions, ()),
        }[section]
    return {one.name: one.type for one in msgspec.structs.fields(kind) if one.name not in left_out}


def unknown(section: Section, name: str) -> tuple[str, str | None]:
    """Message and hint for a key that a section does not have."""
    tables = {"root": TABLES, "model": ("options",)}.get(section, ())
    known = [*keys(section), *tables]
    return "unknown key", nearest(name, known) or _ELSEWHERE.get(name)


def check(section: Section, name: str, value: Any, folder: Path) -> Any:
    """The value of a key, checked and in its one spelling.

    Args:
        section: of the key.
        name: of the key.
        value: as TOML has it, or as text of a variable.
        folder: that relative paths are relative to.

    Raises:
        InvalidValueError: it is invalid.
    """
    if name in _SPELLED:
        value = _SPELLED[name](value)
    try:
        found = msgspec.convert(value, keys(section)[name])
        if section == "options":
            ChatOptions(**{name: found})  # checks its range
    except msgspec.ValidationError as error:
        raise InvalidValueError(_plain(str(error))) from None
    except UsageError as error:
        raise InvalidValueError(error.message, error.hint) from None
    if name in _RANGES and found is not None:
        _check_range(name, found)
    if name in ("cache_directory", "models_path") and found is not None:
        return _folder(name, found, folder, exists=name == "models_path")
    if name in _CHECKS and found is not None:
        _CHECKS[name](found)
    return found


def _plain(message: str) -> str:
    """A message of msgspec in the words of TOML, without its notation of paths."""
    problem, _, place = message.partition(" - at `$")
    match = re.fullmatch(r"Expected `(\w+)(?: \| null)?`, got `(\w+)`", problem)
    if match is not None:
        wanted, got = (_WORDS.get(name, name) for name in match.groups())
        problem = f"it is {got}, and must be {wanted}"
    place = place.rstrip("`")
    return f"{problem} (at {place})" if place else problem


def _check_range(name: str, value: int) -> None:
    least, most = _RANGES[name]
    if least <= value <= most:
        return
    if name == "max_memory":
        hint = f'A number without a unit counts bytes: max_memory = "{value}MB".' if 0 < value < least else None
        raise InvalidValueError(f"{value} bytes; it must be at least {format_bytes(least)}", hint)
    raise InvalidValueError(f"{value} must be between {least:,} and {most:,}")


def _size(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_bytes("max_memory", value)
    except UsageError:
        raise InvalidValueError(f"{value!r} is not a size", 'Write max_memory = "4GiB".') from None


def _one_of(spellings: dict[str, str], known: tuple[str, ...]) -> Callable[[Any], Any]:
    def spelled(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        name = value.lower()
        name = spellings.get(name, name)
        if name not in known:
            near = nearest(name, (*known, *spellings))
            raise InvalidValueError(f"{value!r} is not one of {', '.join(known)}", near)
        return name

    return spelled


def _folder(name: str, value: str, folder: Path, *, exists: bool) -> str:
    try:
        path = folder / expanded(name, value)
    except UsageError as error:
        raise InvalidValueError(error.message, error.hint) from None
    try:
        there, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:  # no permission, or a null character
        raise InvalidValueError(f"{value!r} cannot be read: {error}") from None
    if there and not is_folder:
        raise InvalidValueError(f"{path} is not a folder")
    if exists and not there:
        raise InvalidValueError(f"there is no folder {path}", "Create it, or correct the path.")
    return str(path)


def _check_address(value: str) -> None:
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidValueError(f"not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f\x7f]", value):
        raise InvalidValueError(f"{value!r} is not an http or https URL", 'Write base_url = "http://127.0.0.1:11434".')
    if "@" in parts.netloc:
        raise InvalidValueError("the URL has a user name or a password", "Name the key's variable by api_key_env.")
    if parts.query or parts.fragment:
        raise InvalidValueError("the URL has a query or a fragment", "Remove it.")


def _check_prefix(value: str) -> None:
    if not PREFIX.fullmatch(value):
        raise InvalidValueError(
            f"{value!r} is not a prefix", 'It has lower-case letters and ends in a colon: "ollama:".'
        )


def _check_variable(value: str) -> None:
    if not _VARIABLE.fullmatch(value):
        # The value may be the key itself, so that the message does not repeat it.
        raise InvalidValueError("this is not the name of a variable", "Name the variable that holds the key.")


def _check_database(value: str) -> None:
    scheme = value.partition("://")[0].partition("+")[0]
    if "://" not in value or scheme not in ("sqlite", "postgresql", "postgres"):
        # The value may have a password, so that the message does not repeat it.
        hint = 'Write "postgresql://user@host/name" or "sqlite:///path/to/file.db".'
        raise InvalidValueError("this is not the address of a SQLite or PostgreSQL database", hint)


def _check_names(value: tuple[str, ...]) -> None:
    if len(set(value)) < len(value):
        raise InvalidValueError("a name occurs twice")
    if not all(value):
        raise InvalidValueError("a name is empty")


_SPELLED: dict[str, Callable[[Any], Any]] = {
    "max_memory": _size,
    "device": _one_of(DEVICES, ("auto", "cpu", "cuda", "mps")),
    "precision": _one_of(PRECISIONS, ("float32", "float16", "int8", "int4")),
    "images_for_text_models": _one_of({}, ("refuse", "drop")),
}
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "an array",
    "object": "a table",
}
_CHECKS: dict[str, Callable[[Any], None]] = {
    "base_url": _check_address,
    "prefix": _check_prefix,
    "api_key_env": _check_variable,
    "database_url": _check_database,
    "default_models": _check_names,
    "fallback_models": _check_names,
}
