"""The grammar of an answer that is a call of a tool, in llguidance's variant of Lark, with the JSON schemas within."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from gpux.errors import UsageError
from gpux.inspect.chat_styles import ToolStyle, XmlStyle
from gpux.pipelines.chat.tools.chosen import Parts
from gpux.pipelines.chat.tools.elements import is_text

#: Calls of one answer at most; an uncertain model could begin calls forever.
MOST_CALLS = 16
#: White space in arguments: none but what models write themselves.
_OPTIONS = {"whitespace_pattern": r"( |\n {0,16})?", "whitespace_flexible": True, "lenient": False}
_TEXT = r"/(.|\n)*/"
_SOME = r"/(.|\n)+/"


def call_format(
    parts: Parts,
    tools: Sequence[Mapping[str, Any]],
    special: Callable[[str], int | None],
    *,
    function: str | None = None,
    parallel: bool = True,
    in_reasoning: bool = False,
    otherwise: Mapping[str, Any] | None = None,
    strict: Collection[str] | None = None,
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
        strict: names of the tools whose calls have the arguments of their schemas, in an answer that may be any text
            with calls; None: an answer has calls only, and all follow their schemas.

    Raises:
        UsageError: no tool has the name, the chat template has no style of calls, or the style allows no such answers.
    """
    described = [tool.get("function", tool) for tool in tools]
    if function is not None:
        described = [one for one in described if one["name"] == function]
        if not described:
            raise UsageError(f"tool_choice names the function {function!r}, which is not among the tools", hint=_HINT)
    if parts.tools is None:
        raise UsageError("tool_choice cannot be enforced with this model's chat template", hint="Use auto.")
    if parts.harmony and otherwise is not None:
        raise UsageError("response_format cannot be combined with tools of this model", hint="Omit one of them.")
    writer = _Writer(parts.tools, special, parallel and function is None)
    for number, one in enumerate(described):
        schema = one.get("parameters") or {"properties": {}}
        writer.add(number, one["name"], schema if strict is None or one["name"] in strict else None)
    if strict is not None:
        calls = writer.free(parts)
    elif parts.harmony:
        calls = writer.harmony()
    else:
        calls = writer.calls()
        if otherwise is not None:
            calls = f"answer | {calls}"
            writer.rules.append(f"answer: %json {json.dumps({'x-guidance': _OPTIONS, **_schema(otherwise)})}")
        if in_reasoning and parts.reasoning is not None:
            closes = parts.reasoning.closes
            plain = special(closes) is None
            writer.rules.append(
                f"think[suffix={_quoted(closes)}]: {_TEXT}" if plain else f"think: {_TEXT} {writer.mark(closes)}"
            )
            calls = f"think /\\s{{0,2}}/ ({calls})"
    return {"type": "lark", "grammar": "\n".join([f"start: {calls}", *writer.rules])}


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


class _Writer:
    """Writes the grammar of calls.

    Args:
        style: of the family.
        special: see :func:`call_format`.
        parallel: several calls are allowed, where the style has them.
    """

    def __init__(self, style: ToolStyle, special: Callable[[str], int | None], parallel: bool) -> None:
        self._style, self._special, self._parallel = style, special, parallel
        self._tools: list[tuple[str, str]] = []  #: name, and the rule of the arguments
        self.rules: list[str] = []

    def mark(self, text: str) -> str:
        """A mark: its token, or its text."""
        found = self._special(text)
        return _quoted(text) if found is None else f"<[{found}]>"

    def add(self, number: int, name: str, schema: Mapping[str, Any] | None) -> None:
        """A tool that may be called; without a schema, it has any arguments.

        Raises:
            UsageError: the schema is not one of an object.
        """
        rule = f"args_{number}"
        if schema is not None and schema.get("type", "object") != "object":
            raise UsageError(
                f"the parameters of {name} are of the type {schema['type']!r}, and arguments are an object",
                hint="Describe them as an object with properties.",
                param="tools",
            )
        self._tools.append((name, rule))
        if self._style.xml is not None:
            self.rules.append(f"{rule}: {self._elements(rule, self._style.xml, schema)}")
            return
        shut = {} if schema is None else closed(schema)
        self.rules.append(f"{rule}: %json {json.dumps({'x-guidance': _OPTIONS, 'type': 'object', **shut})}")

    def calls(self) -> str:
        """The calls of an answer that has nothing else."""
        if self._style.family == "llama":  # its templates have one call in a turn
            return self._objects()
        one = f"{self.mark(self._style.opens[0])} {self._after()}"
        return _repeated(one, self._between(), self._parallel) if self._repeats else one

    def free(self, parts: Parts) -> str:
        """An answer of any text and calls.

        Raises:
            UsageError: the style has calls without a mark.
        """
        if parts.harmony:
            return self.harmony(final=True)
        style = self._style
        if style.family == "gemma" or (style.bare and parts.reasoning is not None):
            raise UsageError(
                "strict of a tool cannot be enforced with this model's chat template",
                hint="Omit it, or enforce a call with tool_choice.",
                param="tools",
            )
        without = "|".join(_escaped(mark) for mark in style.opens)
        self.rules.append(f"PLAIN: {_SOME} & ~/(.|\\n)*({without})(.|\\n)*/")
        marks = [] if parts.reasoning is None else [parts.reasoning.opens, parts.reasoning.closes]
        tokens = [self.mark(mark) for mark in (*marks, *style.drops) if self._special(mark) is not None]
        text = f"({' | '.join(['PLAIN', *tokens])})*"
        begins = style.opens[0]
        if style.bare:
            self.rules.append(f"BEGIN: /\\s*[^\\s{{](.|\\n)*/ & ~/(.|\\n)*({without})(.|\\n)*/")
            marked = "" if self._special(begins) is None else f"{self.mark(begins)} "
            after = f"({marked}{self._objects()})?" if marked else ""
            return f"{'(' + marked.strip() + ')? ' if marked else ''}{self._objects()} | BEGIN? {after}"
        most = MOST_CALLS if self._repeats and self._parallel else 1
        if self._special(begins) is not None:
            return f"{text} ({self.mark(begins)} {self._after()} {text}){{0,{most}}}"
        self.rules.append(f"until[suffix={_quoted(begins)}]: {_TEXT}")
        before = f"(PLAIN? ({' | '.join(tokens)}))* " if tokens else ""
        return f"{before}(until {self._after()}){{0,{most}}} PLAIN?"

    def harmony(self, *, final: bool = False) -> str:
        """One call, after reasoning where the marks are special tokens, as no text has them; or a text, if ``final``.

        Raises:
            UsageError: there may be a text, and the marks are not special tokens.
        """
        mark = self.mark
        follows = f'{mark("<|constrain|>")} "json" {mark("<|message|>")}'
        heads = [f"{_quoted('commentary to=functions.' + name + ' ')} {follows} {rule}" for name, rule in self._tools]
        call = f"{mark('<|channel|>')} {_either(heads)}"
        if not mark("<|end|>").startswith("<["):
            if final:
                raise UsageError(
                    "strict of a tool cannot be enforced with this model's tokenizer", hint="Omit it.", param="tools"
                )
            return call
        channel = '("analysis" | "commentary")' if final else '"analysis"'
        thought = f"{mark('<|channel|>')} {channel} {mark('<|message|>')} {_TEXT} {mark('<|end|>')}"
        begins = f'{thought} {mark("<|start|>")} "assistant"'
        if not final:
            return f"({begins})? {call}"
        text = f'{mark("<|channel|>")} "final" {mark("<|message|>")} {_TEXT}'
        return f"({begins}){{0,{MOST_CALLS}}} ({call} | {text})"

    @property
    def _repeats(self) -> bool:
        """Whether each of several calls has its own mark; else a list has them."""
        return self._style.family in ("hermes", "xml") or (self._style.named and self._style.family == "mistral")

    def _between(self) -> str:
        return "" if self._style.named else _quoted("\n")

    def _after(self) -> str:
        """What follows the mark that begins a call, or several in one list."""
        style = self._style
        closes = self.mark(style.closes[0]) if style.closes else ""
        if style.family == "hermes":
            return f"{_quoted(chr(10))} {self._objects()} {_quoted(chr(10))} {closes}"
        if style.xml is not None:
            line = _quoted("\n") + " " if style.xml.before_name else ""
            after = f"{_quoted(style.xml.end + chr(10))} " if style.xml.end else ""
            calls = [f"{_quoted(_named(style.xml, name))} {rule}" for name, rule in self._tools]
            return f"{line}{_either(calls)} {after}{closes}"
        if style.family == "deepseek":
            return self._deepseek(style)
        if style.named:
            return _either([f"{_quoted(name)} {self.mark('[ARGS]')} {rule}" for name, rule in self._tools])
        if style.family == "gemma":
            return f"{_quoted(chr(10))} {self._objects()} {_quoted(chr(10) + '```')}"
        before, between, after = _LISTS.get(style.family, ("[", ", ", "]"))
        if style.opens[0].endswith("["):
            before = closes = ""
        listed = f"{_repeated(self._objects(), _quoted(between), self._parallel)} {_quoted(after)} {closes}"
        return f"{_quoted(before) if before else ''} {listed}".strip()

    def _objects(self) -> str:
        """One call as an object."""
        style = self._style
        ends = "\n    }" if style.family == "command-r" else "}"
        return _either([f"{self._before(name)} {rule} {_quoted(ends)}" for name, rule in self._tools])

    def _before(self, name: str) -> str:
        """The text of a call before its arguments."""
        style, text = self._style, json.dumps(name)
        if style.family == "cohere":
            return f'{_quoted("{" + _quoted("tool_call_id") + ": ")} /"[0-9]{{1,2}}"/ ' + _quoted(
                f', "tool_name": {text}, "parameters": '
            )
        if style.family == "command-r":
            return _quoted(f'    {{\n        "tool_name": {text},\n        "parameters": ')
        return _quoted(f'{{"name": {text}, "{style.arguments}": ')

    def _deepseek(self, style: ToolStyle) -> str:
        fenced = style.closes[0].startswith("```")
        begins, separator, ends = (self.mark(text) for text in (style.opens[1], "<｜tool▁sep｜>", style.closes[-1]))
        calls = [
            f"{_quoted('function')} {separator} {_quoted(name + chr(10) + '```json' + chr(10))} {rule} "
            f"{_quoted(chr(10) + '```')}"
            if fenced
            else f"{_quoted(name)} {separator} {rule}"
            for name, rule in self._tools
        ]
        one = f"{begins} {_either(calls)} {ends}"
        between = _quoted("\n") if fenced else ""
        return f"{_repeated(one, between, self._parallel)} {self.mark(style.drops[0])}"

    def _elements(self, rule: str, style: XmlStyle, schema: Mapping[str, Any] | None) -> str:
        """The arguments as elements, in the order of the schema."""
        properties = {} if schema is None else schema.get("properties") or {}
        if schema is None or not isinstance(properties, Mapping):
            value = self._text(f"{rule}_any", style, {})
            key = f"{_quoted(style.before_key)} /[\\w.\\-]{{1,64}}/ {_quoted(style.after_key)}"
            return f"({key} {value}){{0,64}}"
        needed = schema.get("required")
        required = needed if isinstance(needed, list) else ()
        found = []
        for place, (name, inner) in enumerate(properties.items()):
            one = _quoted(style.before_key + name + style.after_key)
            if is_text(inner):
                one += f" {self._text(f'{rule}_{place}', style, inner)}"
            else:
                shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
                whole = {**shared, **closed(inner)} if isinstance(inner, Mapping) else inner
                guided = {"x-guidance": _OPTIONS, **whole} if isinstance(whole, Mapping) else {"x-guidance": _OPTIONS}
                self.rules.append(f"{rule}_{place}: %json {json.dumps(guided)}")
                one += f" {rule}_{place} {_quoted(style.after_value)}"
            found.append(one if name in required else f"({one})?")
        return " ".join(found) or '""'

    def _text(self, rule: str, style: XmlStyle, schema: Mapping[str, Any]) -> str:
        """A value that is a text, with what follows. Of its schema, the values and the length are enforced."""
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(values, list) and values:
            return f"{_either([_quoted(value) for value in values])} {_quoted(style.after_value)}"
        least, most = schema.get("minLength") or 0, schema.get("maxLength")
        size = "*" if not least and most is None else f"{{{least},{'' if most is None else most}}}"
        self.rules.append(f"{rule}[suffix={_quoted(style.after_value)}]: /(.|\\n){size}/")
        return rule


#: Texts around and between the objects of a list, where they are not as JSON has them.
_LISTS = {"cohere": ("[\n    ", ",\n    ", "\n]"), "command-r": ("\n[\n", ",\n", "\n]\n")}


def _named(style: XmlStyle, name: str) -> str:
    return f"{style.before_name}{name}{style.after_name}"


def _escaped(text: str) -> str:
    """A text within a regular expression."""
    return re.sub(r"([\\.^$|?*+()\[\]{}/])", r"\\\1", text)


def _either(choices: Sequence[str]) -> str:
    return choices[0] if len(choices) == 1 else f"({' | '.join(choices)})"


def _repeated(one: str, between: str, parallel: bool) -> str:
    return f"{one} ({between} {one}){{0,{MOST_CALLS - 1}}}" if parallel else one


def _quoted(text: str) -> str:
    return json.dumps(text)
