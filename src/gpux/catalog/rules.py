"""The valid values of each field of a record: one table for reported facts and for overrides.

The values are checked here and not by msgspec: a count may be text such as ``70B``, a list may be text with commas,
text is stripped of control characters, and a message says what is expected instead of the constraint that failed.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gpux.errors import UsageError
from gpux.huggingface.search import in_billions, read_count, read_parameters
from gpux.model.tasks import task_named
from gpux.runtime.generation.options import option_infos, option_names

LARGEST_DEFAULTS = 65_536  #: bytes of all default parameters as JSON
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")


def checked_defaults(value: Any) -> dict[str, Any]:
    """Validate default parameters; None removes a parameter.

    Raises:
        TypeError: ``value`` is not a mapping.
        ValueError: a name is invalid, or a value is out of range or not JSON.
    """
    if not isinstance(value, Mapping):
        raise TypeError("a mapping of names to values is expected")
    for name, item in value.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a valid parameter name")
        if item is not None:
            _check_option(name, item)
    try:
        text = json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise ValueError(f"JSON values are expected ({exc})") from exc
    if len(text) > LARGEST_DEFAULTS:
        raise ValueError(f"at most {LARGEST_DEFAULTS:,} bytes are expected")
    found: dict[str, Any] = json.loads(text)
    return found


def merged_defaults(former: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Update default parameters; those that are None are removed."""
    return {name: item for name, item in {**former, **given}.items() if item is not None}


def _check_option(name: str, value: Any) -> None:
    """Check the value of a generation option; a parameter that is not one may have any JSON value."""
    info = option_infos().get(option_names().get(name, ""))
    if info is None or (info.name == "temperature" and value == 0 and not isinstance(value, bool)):  # 0: greedy
        return
    try:
        fault = info.kind.fault(info.kind.parse(value))
    except TypeError:
        fault = (value, "a list")
    if fault is not None:
        raise ValueError(f"{name} must be {fault[1]}")


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]|\u2028|\u2029")
_TASK = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_MAX_ITEMS = 1000  #: of a list


@dataclass(frozen=True)
class Rule:
    """The type and range of one field."""

    kind: Literal["count", "text", "prose", "texts", "task", "flag", "defaults"]
    low: int = 1
    high: int = 10**15  #: of a count; of a text, the number of characters
    settable: bool = True  #: by an override
    aliases: tuple[str, ...] = ()


#: field -> rule, in the order of display
RULES: dict[str, Rule] = {
    "name": Rule("text", high=200, aliases=("title",)),
    "description": Rule("prose", high=10_000),
    "defaults": Rule("defaults", aliases=("default_parameters", "default")),
    "task": Rule("task", high=100, aliases=("pipeline_tag",)),
    "library": Rule("text", high=100),
    "model_type": Rule("text", high=100),
    "architectures": Rule("texts", high=200, aliases=("architecture",)),
    "kind": Rule("text", high=100),
    "parameters": Rule("count", low=1000, aliases=("params", "parameter_count")),
    "parameters_basis": Rule("text", high=100, settable=False),
    "active_parameters": Rule("count", low=1000, aliases=("active", "active_params")),
    "context_length": Rule("count", high=10**9, aliases=("context", "context_window", "max_length")),
    "hidden_size": Rule("count", high=10**7),
    "layers": Rule("count", high=10**5),
    "attention_heads": Rule("count", high=10**5, aliases=("heads",)),
    "kv_heads": Rule("count", high=10**5),
    "attention": Rule("text", high=100),
    "head_size": Rule("count", high=10**6),
    "intermediate_size": Rule("count", high=10**8),
    "vocab_size": Rule("count", high=10**9, aliases=("vocabulary",)),
    "sliding_window": Rule("count", high=10**9),
    "experts": Rule("count", high=10**6),
    "active_experts": Rule("count", high=10**6),
    "shared_experts": Rule("count", low=0, high=10**6),
    "precision": Rule("text", high=100, aliases=("dtype",)),
    "quantization": Rule("text", high=100, aliases=("quantisation",)),
    "formats": Rule("texts", high=100, settable=False),
    "files": Rule("count", low=0, settable=False),
    "size": Rule("count", high=10**18, low=0, settable=False),
    "license": Rule("text", high=200, aliases=("licence",)),
    "languages": Rule("texts", high=100, aliases=("language",)),
    "base_models": Rule("texts", high=200, aliases=("base_model",)),
    "datasets": Rule("texts", high=200, aliases=("dataset",)),
    "gated": Rule("text", high=20, settable=False),
    "private": Rule("flag", settable=False),
    "scan": Rule("text", high=20, settable=False),
    "downloads": Rule("count", low=0, settable=False),
    "likes": Rule("count", low=0, settable=False),
    "created": Rule("text", high=40, settable=False),
    "last_modified": Rule("text", high=40, settable=False),
}
#: Fields with a number of parameters, which may be given in billions: no model has fewer than 1,000.
_IN_BILLIONS = ("parameters", "active_parameters")
#: Fields that only the user sets; no source reports them.
OWN = ("name", "description", "defaults")
SETTABLE = tuple(name for name, rule in RULES.items() if rule.settable)
_NAMES = {alias: name for name, rule in RULES.items() for alias in (name, *rule.aliases)}


def current_name(field: str) -> str:
    """The canonical name of a field that another version stored under an alias."""
    return _NAMES.get(field, field)


def reported(field: str, value: Any) -> Any:
    """A value that a source reports, without control characters; None if it is invalid."""
    rule = RULES[field]
    if isinstance(value, str):
        value = _plain(rule, value)
    elif isinstance(value, (list, tuple)):
        value = [text for item in value[:_MAX_ITEMS] if isinstance(item, str) and (text := _plain(rule, item))]
    try:
        return _checked(rule, value)
    except (TypeError, ValueError):
        return () if rule.kind == "texts" else None


def _plain(rule: Rule, text: str) -> str:
    text = text if rule.kind == "prose" else " ".join(text.split())
    return _CONTROL.sub("", text)[: rule.high].strip()


def checked_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Validate overrides and return them under the canonical field names; None removes an override.

    Counts may be text (``"70B"``, ``"128k"``), lists comma-separated text. A number of parameters below 1,000 is in
    billions.

    Raises:
        UsageError: an unknown field (``details["field"]``), one that cannot be overridden, or a value of another type
            or range.
    """
    found: dict[str, Any] = {}
    for given, value in overrides.items():
        field = field_named(given)
        if field in found:
            raise UsageError(f"{field} is set twice, once as {given!r}", field=field)
        found[field] = None if value is None else _override(field, value)
    return found


def field_named(given: str) -> str:
    """The canonical field of a name or alias.

    Raises:
        UsageError: the field is unknown or cannot be overridden.
    """
    key = given.strip().lower().replace("-", "_")
    field = _NAMES.get(key)
    if field is None:
        near = difflib.get_close_matches(key, [name for name in _NAMES if RULES[_NAMES[name]].settable], n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(SETTABLE)}."
        raise UsageError(f"unknown field {given!r}", hint=hint, field=given)
    if not RULES[field].settable:
        hint = f"Fields that can be set: {', '.join(SETTABLE)}."
        raise UsageError(f"{field} is reported by the source and cannot be set", hint=hint, field=field)
    return field


def _override(field: str, value: Any) -> Any:
    rule = RULES[field]
    try:
        if rule.kind == "count" and isinstance(value, str):
            value = read_parameters(value) if field in _IN_BILLIONS else read_count(value)
        elif field in _IN_BILLIONS and isinstance(value, (int, float)) and 0 < value < 1000 and value is not True:
            value = in_billions(value)
        if rule.kind == "texts" and isinstance(value, str):
            value = [item.strip() for item in value.split(",") if item.strip()]
        return _checked(rule, value)
    except (TypeError, ValueError) as exc:
        raise UsageError(f"{field}={value!r}: {exc}", field=field) from exc
    except UsageError as exc:
        raise UsageError(f"{field}: {exc.message}", hint=exc.hint, field=field) from exc


def _checked(rule: Rule, value: Any) -> Any:
    """Validate a value.

    Raises:
        TypeError: the value has another type.
        ValueError: the value is out of range.
    """
    if rule.kind == "count":
        return _count(rule, value)
    if rule.kind == "flag":
        if not isinstance(value, bool):
            raise TypeError("true or false is expected")
        return value
    if rule.kind == "texts":
        return _texts(rule, value)
    if rule.kind == "defaults":
        return checked_defaults(value)
    text = _text(rule, value)
    if rule.kind == "task":
        text = task_named(text) or text
        if not _TASK.fullmatch(text):
            raise ValueError("a task name such as text-generation is expected")
    return text


def _count(rule: Rule, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("an integer is expected")
    if not rule.low <= value <= rule.high:
        raise ValueError(f"a number from {rule.low:,} to {rule.high:,} is expected")
    return value


def _text(rule: Rule, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("text is expected")
    text = value.strip()
    if not text:
        raise ValueError("the text is empty")
    if len(text) > rule.high:
        raise ValueError(f"at most {rule.high:,} characters are expected")
    if _CONTROL.search(text) or (rule.kind != "prose" and re.search(r"[\t\n]", text)):
        raise ValueError("control characters are not allowed")
    return text


def _texts(rule: Rule, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or len(value) > _MAX_ITEMS:
        raise ValueError("a list of text is expected")
    return tuple(dict.fromkeys(_text(rule, item) for item in value))
