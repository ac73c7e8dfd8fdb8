"""The environment variables of chat providers.

Each has two names: ``HUGGINGFACE_DEVICE``, as in other programs, and ``GPUX_HUGGINGFACE_DEVICE``, which takes
precedence. Both take precedence over the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gpux.chat.configuration.faults import Fault
from gpux.chat.configuration.keys import InvalidValueError
from gpux.system import settings

_SWITCHES = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _text(value: str) -> Any:
    return value


def _switch(value: str) -> Any:
    if value.lower() not in _SWITCHES:
        raise InvalidValueError(f"{value!r} is neither true nor false")
    return _SWITCHES[value.lower()]


def _number(value: str) -> Any:
    if not (value.isascii() and value.isdecimal() and len(value) < 20):
        raise InvalidValueError(f"{value!r} is not a whole number")
    return int(value)


def _megabytes(value: str) -> Any:
    """A size as text; without a unit, it counts megabytes."""
    return f"{value}MB" if value.isascii() and value.isdecimal() else value


def _names(value: str) -> Any:
    return [name.strip() for name in value.split(",") if name.strip()]


@dataclass(frozen=True)
class Variable:
    """One variable."""

    name: str
    key: tuple[str, ...]  #: of the file, that it replaces
    read: Callable[[str], Any]  #: its text as the value of the key


#: In the order of the document that they come from.
VARIABLES = (
    Variable("HUGGINGFACE_ENABLED", ("providers", "huggingface", "enabled"), _switch),
    Variable("HUGGINGFACE_MODELS_PATH", ("models_path",), _text),
    Variable("HUGGINGFACE_CACHE_DIR", ("cache_directory",), _text),
    Variable("HUGGINGFACE_DEVICE", ("model_defaults", "device"), _text),
    Variable("HUGGINGFACE_PRECISION", ("model_defaults", "precision"), _text),
    Variable("HUGGINGFACE_MAX_MEMORY", ("max_memory",), _megabytes),
    Variable("MODEL_PROVIDER_PRIORITY", ("providers", "*", "priority"), _names),
    Variable("DEFAULT_MODEL_PROVIDER", ("default_provider",), _text),
    Variable("MAX_CONCURRENT_MODELS", ("max_concurrent_models",), _number),
    Variable("MODEL_LOAD_TIMEOUT_MS", ("model_load_timeout_ms",), _number),
    Variable("STREAM_TIMEOUT_MS", ("stream_timeout_ms",), _number),
    Variable("RETRY_ATTEMPTS", ("retry_attempts",), _number),
    Variable("RETRY_DELAY_MS", ("retry_delay_ms",), _number),
    Variable("ENABLE_MODEL_MONITORING", ("monitoring",), _switch),
    Variable("MODEL_HEALTH_CHECK_INTERVAL_MS", ("health_check_interval_ms",), _number),
    Variable("MEMORY_CLEANUP_INTERVAL_MS", ("memory_cleanup_interval_ms",), _number),
)
PREFIX = "GPUX_"


@dataclass(frozen=True)
class Setting:
    """A variable that is set."""

    name: str  #: as it was set, with or without ``GPUX_``
    key: tuple[str, ...]
    value: Any


def names() -> Iterable[str]:
    """All names, with both spellings of each."""
    return (f"{prefix}{one.name}" for one in VARIABLES for prefix in ("", PREFIX))


def is_set(environ: Mapping[str, str] | None) -> bool:
    """Whether any of the variables is set."""
    return bool(settings.variables(names(), environ))


def read(environ: Mapping[str, str] | None) -> tuple[list[Setting], list[Fault], list[Fault]]:
    """The variables that are set, what is wrong with them, and warnings."""
    found, faults, warnings = [], [], []
    given = settings.variables(names(), environ)
    for one in VARIABLES:
        own = f"{PREFIX}{one.name}"
        name = own if own in given else one.name
        if name not in given:
            continue
        key = ".".join(one.key)
        if own in given and given.get(one.name, given[own]) != given[own]:
            warnings.append(Fault(f"it is not used, as {own} has another value", one.name, key=key))
        try:
            found.append(Setting(name, one.key, one.read(given[name])))
        except InvalidValueError as error:
            faults.append(Fault(str(error), name, key=key, hint=error.hint))
    return found, faults, warnings
