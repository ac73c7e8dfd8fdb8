"""Options of a pipeline's calls: declared once, for type checkers, for ``help()``, and for programs that list them.

A pipeline declares its options as a ``TypedDict`` whose values are annotated with an :class:`Option`, and takes them as
``**options: Unpack[...]`` (PEP 692):

>>> class FillMaskOptions(TypedDict, total=False):
...     top_k: Annotated[int, Option("candidates for each mask", default=5)]
>>> class FillMaskPipeline(Pipeline):
...     call_options = FillMaskOptions
...     def __call__(self, inputs: str, **options: Unpack[FillMaskOptions]) -> Any: ...
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from gpux.errors import UsageError

_WORDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "a JSON object",
    "array": "a JSON list",
}
_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object", list: "array"}


@dataclass(frozen=True)
class Option:
    """What a type does not say about an option: one line of help, and the value where none is given."""

    help: str
    default: Any = None


class CallOptions(TypedDict, total=False):
    """The option that every pipeline of batches has."""

    batch_size: Annotated[int | None, Option("inputs of one run at most; by default, as many as fit the budget")]


@dataclass(frozen=True)
class OptionSpec:
    """One option of a pipeline's calls, as :meth:`gpux.Pipeline.options` lists it."""

    name: str
    type: Any  #: a type annotation: ``int | None``, ``Literal['softmax', 'sigmoid', 'none'] | None`` …
    default: Any
    help: str
    range: Mapping[str, Any] | None = None  #: JSON schema of the allowed values, where the type alone allows more

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of a value; ``{}`` where the type has no JSON form, such as a Python class."""
        if self.range is not None:
            return {"anyOf": [dict(self.range), {"type": "null"}]}
        return json_schema(self.type)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: ``name``, ``type`` as Python writes it, ``default``, ``help`` and ``schema``."""
        return {
            "name": self.name,
            "type": _written(self.type),
            "default": self.default,
            "help": self.help,
            "schema": self.schema,
        }


@cache
def option_specs(declared: type) -> tuple[OptionSpec, ...]:
    """The options of a TypedDict, sorted by name; a key without an :class:`Option` has neither help nor default."""
    found = []
    for name, hint in sorted(get_type_hints(declared, include_extras=True).items()):
        annotated = get_origin(hint) is Annotated
        plain = get_args(hint)[0] if annotated else hint
        notes = [note for note in getattr(hint, "__metadata__", ()) if isinstance(note, Option)]
        option = notes[0] if notes else Option("")
        found.append(OptionSpec(name, plain, option.default, option.help))
    return tuple(found)


def check_names(task: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Refuse an option that a task does not have.

    Raises:
        UsageError: with the nearest name as its hint, or all names.
    """
    for name in sorted(set(given) - set(known)):
        near = difflib.get_close_matches(name, known, 1)
        raise UsageError(
            f"{task} has no option {name}",
            hint=f"Did you mean {near[0]}?" if near else f"It has: {', '.join(sorted(known)) or 'none'}.",
        )


def json_schema(hint: Any) -> dict[str, Any]:
    """The JSON schema of a type annotation; ``{}``, which allows any value, for types that JSON does not have."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in _JSON_TYPES or origin in _JSON_TYPES:
        found: dict[str, Any] = {"type": _JSON_TYPES[hint if origin is None else origin]}
        return {**found, "items": json_schema(inner[0])} if origin is list and json_schema(inner[0]) else found
    if hint is None or hint is type(None):
        return {"type": "null"}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin in (Union, types.UnionType):
        choices = [json_schema(item) for item in inner]
        return {"anyOf": choices} if all(choices) else {}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object"}
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return {"type": "array", **({"items": json_schema(inner[0])} if inner and json_schema(inner[0]) else {})}
    return {"type": "object"} if is_typeddict(hint) else {}


def _written(hint: Any) -> str:
    """A type as in a signature, without module names: ``Literal['a'] | None``."""
    if get_origin(hint) in (Union, types.UnionType):
        return " | ".join(_written(item) for item in get_args(hint))
    return "None" if hint is type(None) else re.sub(r"\b(?:[a-z_]\w*\.)+", "", inspect.formatannotation(hint))


def show_keywords(function: Callable[..., Any]) -> None:
    """Let ``help()`` and :func:`inspect.signature` list the keywords behind ``**options: Unpack[SomeOptions]``."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    last = parameters[-1] if parameters else None
    if last is None or last.kind is not last.VAR_KEYWORD or not str(last.annotation).startswith("Unpack["):
        return
    declared = function.__globals__[str(last.annotation).removeprefix("Unpack[").removesuffix("]")]
    taken = {parameter.name for parameter in parameters}
    parameters[-1:] = [
        inspect.Parameter(spec.name, inspect.Parameter.KEYWORD_ONLY, default=spec.default, annotation=spec.type)
        for spec in option_specs(declared)
        if spec.name not in taken
    ]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined] # PEP 362 allows it


def parse_option(task: str, spec: OptionSpec, text: str) -> Any:
    """The value of an option from the text of a command line.

    A text is taken as it is where the option may be one; otherwise it is JSON, or for an option of several texts a list
    separated by commas.

    >>> parse_option("zero-shot-classification", candidate_labels, "politics, economy")
    ['politics', 'economy']

    Raises:
        UsageError: the option does not accept it.
    """
    schema = spec.schema
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    listed = spec.range is not None and fits([value], spec.range)  # one item for a list of a generation option
    if fits(value, schema) or listed:
        return value
    words = [word.strip() for word in text.split(",") if word.strip()]
    for candidate in (text, words):
        if fits(candidate, schema):
            return candidate
    raise UsageError(
        f"{spec.name} of {task} is {text!r}, and must be {described(schema)}",
        hint=f"{spec.name}: {spec.help}." if spec.help else None,
    )


def described(schema: Mapping[str, Any]) -> str:
    """The values that a schema allows, in words: ``a whole number``, ``softmax, sigmoid or none``."""
    if "anyOf" in schema:
        choices = [described(choice) for choice in schema["anyOf"] if choice.get("type") != "null"]
        return " or ".join(dict.fromkeys(choices))
    if "enum" in schema:
        *first, last = [json.dumps(one) if isinstance(one, bool) else str(one) for one in schema["enum"]]
        return f"{', '.join(first)} or {last}" if first else last
    if schema.get("type") == "array" and schema.get("items", {}).get("type") == "string":
        return "texts separated by commas"
    words = _WORDS.get(schema.get("type", ""), "JSON")
    for name, text in (("minimum", "of at least"), ("exclusiveMinimum", "greater than"), ("maximum", "of at most")):
        words += f" {text} {schema[name]:g}" if name in schema else ""
    return words


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a JSON value is valid by a schema as :func:`json_schema` writes it: types, enums, items, ranges."""
    if "anyOf" in schema:
        return any(fits(value, choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return any(value == choice and type(value) is type(choice) for choice in schema["enum"])
    kind = schema.get("type")
    if kind is not None and not _is_a(value, kind):
        return False
    if isinstance(value, list):
        return len(value) >= schema.get("minItems", 0) and all(fits(item, schema.get("items", {})) for item in value)
    if isinstance(value, (int, float)):
        lower, above = schema.get("minimum", value), schema.get("exclusiveMinimum", -math.inf)
        upper, below = schema.get("maximum", value), schema.get("exclusiveMaximum", math.inf)
        return bool(lower <= value <= upper and above < value < below)
    return True


def _is_a(value: Any, kind: str) -> bool:
    """Whether a value is of a JSON type; a whole number is a number too, and True is not a number."""
    if isinstance(value, bool) or value is None:
        return kind == ("null" if value is None else "boolean")
    accepted = (int, float) if kind == "number" else tuple(t for t, name in _JSON_TYPES.items() if name == kind)
    return isinstance(value, accepted)
