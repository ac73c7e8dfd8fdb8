"""The grammar of an answer that is a call of a tool, in llguidance's variant of Lark, with the JSON schemas within."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpux.errors import UsageError
from gpux.inspect.chat_styles import ToolStyle
from gpux.pipelines.chat.tools.chosen import Parts

#: Calls of one answer at most; an uncertain model could begin calls forever.
MOST_CALLS = 16
#: White space in arguments: none but what models write themselves.
_OPTIONS = {"whitespace_pattern": r"( |\n {0,16})?", "whitespace_flexible": True, "lenient": False}
_TEXT = r"/(.|\n)*/"


def call_format(
    parts: Parts,
    tools: Sequence[Mapping[str, Any]],
    special: Callable[[str], int | None],
    *,
    function: str | None = None,
    parallel: bool = True,
    in_reasoning: bool = False,
    otherwise: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The ``response_format`` of an answer that calls one of the tools, in the style of the model's chat template.

    Args:
        parts: how the model writes calls.
        tools: in the form of templates, with the JSON schema of their arguments.
        special: the id of a special token by its name; None for other texts.
        function: name of the tool that is called, once.
        parallel: several calls are allowed, where the style has them.
        in_reasoning: the answer begins within reasoning, which may end first.
        otherwise: ``response_format`` of an answer that is no call; None: an answer is one.

    Raises:
        UsageError: no tool has the name, or the chat template has no style of calls.
    """
    described = [tool.get("function", tool) for tool in tools]
    if function is not None:
        described = [one for one in described if one["name"] == function]
        if not described:
            raise UsageError(f"tool_choice names the function {function!r}, which is not among the tools", hint=_HINT)
    if parts.tools is None:
        raise UsageError("tool_choice cannot be enforced with this model's chat template", hint="Use auto.")

    def mark(text: str) -> str:
        found = special(text)
        return _quoted(text) if found is None else f"<[{found}]>"

    rules = []
    for number, one in enumerate(described):
        schema = {"x-guidance": _OPTIONS, "type": "object", **closed(one.get("parameters") or {"properties": {}})}
        rules.append(f"args_{number}: %json {json.dumps(schema)}")
    if parts.harmony:
        calls = _harmony(described, mark)
        if otherwise is not None:
            raise UsageError("response_format cannot be combined with tools of this model", hint="Omit one of them.")
    else:
        calls = _calls(parts.tools, described, mark, parallel and function is None)
        if otherwise is not None:
            calls = f"answer | {calls}"
            rules.append(f"answer: %json {json.dumps({'x-guidance': _OPTIONS, **_schema(otherwise)})}")
        if in_reasoning and parts.reasoning is not None:
            closes = parts.reasoning.closes
            plain = special(closes) is None
            rules.append(f"think[suffix={_quoted(closes)}]: {_TEXT}" if plain else f"think: {_TEXT} {mark(closes)}")
            calls = f"think /\\s{{0,2}}/ ({calls})"
    return {"type": "lark", "grammar": "\n".join([f"start: {calls}", *rules])}


_HINT = "Name one of the functions in tools."


def closed(schema: Any) -> Any:
    """A JSON schema whose objects have no other properties than theirs, unless it says that they may.

    JSON Schema allows others by default, which a function does not take, and which an uncertain model would write.
    Below ``allOf``, where a schema has only some of the properties, nothing is changed.
    """
    if not isinstance(schema, Mapping):
        return schema
    found = dict(schema)
    for key in ("properties", "$defs", "definitions"):
        if isinstance(named := found.get(key), Mapping):
            found[key] = {name: closed(inner) for name, inner in named.items()}
    for key in ("anyOf", "oneOf", "prefixItems"):
        if isinstance(several := found.get(key), list):
            found[key] = [closed(inner) for inner in several]
    if "items" in found:
        found["items"] = closed(found["items"])
    if isinstance(found.get("properties"), Mapping) and not _OPEN.intersection(found):
        found["additionalProperties"] = False
    return found


#: Keys of an object's schema that decide about further properties.
_OPEN = frozenset(
    {"additionalProperties", "unevaluatedProperties", "patternProperties", "allOf", "anyOf", "oneOf", "$ref"}
)


def _schema(wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON schema of a ``response_format``."""
    kind = wanted.get("type")
    if kind == "json_object":
        return {"type": "object"}
    if kind == "json_schema" and isinstance(named := wanted.get("json_schema"), Mapping) and "schema" in named:
        schema: Mapping[str, Any] = named["schema"]
        return schema
    raise UsageError(f"response_format of the type {kind} cannot be combined with tools", hint="Omit one of them.")


def _calls(style: ToolStyle, described: Sequence[Mapping[str, Any]], mark: Callable[[str], str], parallel: bool) -> str:
    """The calls of an answer, as one expression."""
    opens = mark(style.opens[0])
    if style.named:
        one = _either(
            [f"{_quoted(tool['name'])} {mark('[ARGS]')} args_{number}" for number, tool in _numbered(described)]
        )
        return _repeated(f"{opens} {one}", "", parallel)
    objects = _either(
        [
            f"{_quoted(_before(tool['name'], style.arguments))} args_{number} {_quoted('}')}"
            for number, tool in _numbered(described)
        ]
    )
    if style.family == "hermes":
        text = f"{opens} {_quoted(chr(10))} {objects} {_quoted(chr(10))} {mark(style.closes[0])}"
        return _repeated(text, _quoted("\n"), parallel)
    if style.family == "llama":  # its templates have one call in a turn
        return objects
    if style.family == "gemma":
        return f"{_quoted('```tool_code' + chr(10))} {objects} {_quoted(chr(10) + '```')}"
    listed = f'{_repeated(objects, _quoted(", "), parallel)} "]"'
    if style.family == "phi" and style.opens[0].endswith("["):
        return f"{opens} {listed}"
    return f'{opens} "[" {listed}' + (f" {mark(style.closes[0])}" if style.closes else "")


def _harmony(described: Sequence[Mapping[str, Any]], mark: Callable[[str], str]) -> str:
    """One call, after reasoning where the marks are special tokens, as no text has them."""
    follows = f'{mark("<|constrain|>")} "json" {mark("<|message|>")}'
    heads = [
        f"{_quoted('commentary to=functions.' + tool['name'] + ' ')} {follows} args_{number}"
        for number, tool in _numbered(described)
    ]
    call = f"{mark('<|channel|>')} {_either(heads)}"
    if not mark("<|end|>").startswith("<["):
        return call
    thought = f'{mark("<|channel|>")} "analysis" {mark("<|message|>")} {_TEXT} {mark("<|end|>")}'
    return f'({thought} {mark("<|start|>")} "assistant")? {call}'


def _numbered(described: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    return list(enumerate(described))


def _before(name: str, arguments: str) -> str:
    return f'{{"name": {json.dumps(name)}, "{arguments}": '


def _either(choices: Sequence[str]) -> str:
    return choices[0] if len(choices) == 1 else f"({' | '.join(choices)})"


def _repeated(one: str, between: str, parallel: bool) -> str:
    return f"{one} ({between} {one}){{0,{MOST_CALLS - 1}}}" if parallel else one


def _quoted(text: str) -> str:
    return json.dumps(text)
