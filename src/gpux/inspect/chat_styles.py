"""How models write calls of tools and reasoning: read from a chat template, never from a model's name."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

Family = Literal[
    "hermes",
    "llama",
    "mistral",
    "phi",
    "gemma",
    "harmony",
    "granite",
    "nemotron",
    "cohere",
    "command-r",
    "deepseek",
    "xml",
]


@dataclass(frozen=True)
class XmlStyle:
    """How a call is written as elements, whose values are texts, or JSON where the schema has another type.

    Args:
        before_name, after_name: texts around the name of the tool.
        before_key, after_key: texts around the name of an argument.
        after_value: text after the value of an argument.
        end: text after the arguments; empty: ``closes``.
        closes: mark that ends the call.
    """

    before_name: str
    after_name: str
    before_key: str
    after_key: str
    after_value: str
    end: str = ""
    closes: str = "</tool_call>"

    @property
    def lines(self) -> bool:
        """Whether a line break before and one after a value belong to the format."""
        return self.after_key.endswith("\n")


@dataclass(frozen=True)
class ToolStyle:
    """How a family writes calls.

    Args:
        family: its name.
        opens: texts that begin calls; the longest that fits counts. The first one is written.
        closes: texts that end them, if there are any; the first one is written.
        bare: an answer that begins with a JSON object is a call, if that has the name of a tool and arguments.
        arguments: name of the arguments in calls that are written under a grammar.
        named: the name of a tool comes before its arguments, and not within the same object.
        drops: further marks that are not part of the answer.
        xml: of a family that writes elements instead of JSON.
    """

    family: Family
    opens: tuple[str, ...]
    closes: tuple[str, ...] = ()
    bare: bool = False
    arguments: str = "arguments"
    named: bool = False
    drops: tuple[str, ...] = ()
    xml: XmlStyle | None = None


@dataclass(frozen=True)
class ReasoningStyle:
    """What is around the reasoning of a model.

    Args:
        opens: text that begins it.
        closes: text that ends it.
        drops: marks around the answer that follows, which are not part of it.
    """

    opens: str
    closes: str
    drops: tuple[str, ...] = ()


HERMES = ToolStyle("hermes", ("<tool_call>",), ("</tool_call>",))
LLAMA = ToolStyle("llama", ("<|python_tag|>",), ("<|eom_id|>",), bare=True, arguments="parameters")
MISTRAL = ToolStyle("mistral", ("[TOOL_CALLS]",))
MISTRAL_NAMED = ToolStyle("mistral", ("[TOOL_CALLS]",), named=True)
PHI = ToolStyle("phi", ("<|tool_call|>", "functools["), ("<|/tool_call|>",))
PHI_FUNCTOOLS = ToolStyle("phi", ("functools[", "<|tool_call|>"), ("<|/tool_call|>",))
GEMMA = ToolStyle("gemma", ("```tool_code", "```tool_call", "```json"), ("```",), bare=True, arguments="parameters")
HARMONY = ToolStyle("harmony", ("<|channel|>", "<|start|>"), ("<|call|>", "<|end|>", "<|return|>"))
GRANITE = ToolStyle("granite", ("<|tool_call|>", "<tool_call>"))
NEMOTRON = ToolStyle("nemotron", ("<TOOLCALL>",), ("</TOOLCALL>",))
COHERE = ToolStyle("cohere", ("<|START_ACTION|>",), ("<|END_ACTION|>",), arguments="parameters")
COMMAND_R = ToolStyle("command-r", ("Action: ```json", "Action:\n```json", "Action:```json"), ("```",))
DEEPSEEK = ToolStyle(
    "deepseek",
    ("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"),
    ("<｜tool▁call▁end｜>",),
    named=True,
    drops=("<｜tool▁calls▁end｜>",),
)
DEEPSEEK_FENCED = replace(DEEPSEEK, closes=("```<｜tool▁call▁end｜>", "<｜tool▁call▁end｜>"))
_FUNCTION = XmlStyle("<function=", ">\n", "<parameter=", ">\n", "\n</parameter>\n", "</function>")
_ARGUMENTS = XmlStyle("", "\n", "<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n")
QWEN_CODER = replace(HERMES, family="xml", xml=_FUNCTION)
GLM = replace(HERMES, family="xml", xml=_ARGUMENTS)
_SEED = XmlStyle("<function=", ">\n", "<parameter=", ">", "</parameter>\n", "</function>", "</seed:tool_call>")
SEED = ToolStyle("xml", ("<seed:tool_call>",), ("</seed:tool_call>",), xml=_SEED)

#: In order: a template with the marks of several belongs to the first.
_MARKS = (
    (HARMONY, ("<|channel|>",)),
    (SEED, ("<seed:tool_call>",)),
    (QWEN_CODER, ("<parameter=",)),
    (GLM, ("<arg_key>",)),
    (HERMES, ("<tool_call>",)),
    (MISTRAL_NAMED, ("[ARGS]",)),
    (MISTRAL, ("[TOOL_CALLS]", "[AVAILABLE_TOOLS]")),
    (NEMOTRON, ("<TOOLCALL>",)),
    (COHERE, ("<|START_ACTION|>",)),
    (COMMAND_R, ("Action:",)),
    (DEEPSEEK_FENCED, ("```json",)),
    (DEEPSEEK, ("<｜tool▁call▁begin｜>",)),
    (PHI_FUNCTOOLS, ("functools[",)),
    (GRANITE, ("<|start_of_role|>",)),
    (PHI, ("<|tool_call|>", "<|/tool|>")),
    (GEMMA, ("tool_code", "<start_of_turn>")),
    (LLAMA, ("<|python_tag|>", "ipython")),
)
#: Texts that a template, or a tokenizer, must have besides one of the marks.
_NEEDED = {
    COMMAND_R.family: ("tool_name",),
    DEEPSEEK.family: ("<｜tool▁call▁begin｜>",),
    GRANITE.family: ("<|tool_call|>",),
}
#: Marks of calls that are not read.
_UNREAD = (
    "<|tool_call_start|>",
    "<start_function_call>",
    "<|tool_calls_section_begin|>",
    "<minimax:tool_call>",
    "<|tool_call>",
    ">>>",
)
_BARE = re.compile(r"""["']parameters["']""")
_ANSWERS = ("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>")
_REASONING = (
    ReasoningStyle("<think>", "</think>"),
    ReasoningStyle("[THINK]", "[/THINK]"),
    ReasoningStyle("<seed:think>", "</seed:think>"),
    ReasoningStyle("<|START_THINKING|>", "<|END_THINKING|>", _ANSWERS),
)
#: As IBM's Granite writes it.
_RESPONSE = ("<response>", "</response>")


def tool_style(template: str, special_tokens: Collection[str] = ()) -> ToolStyle | None:
    """The style of a template that reads ``tools``; None if it reads none, or writes calls in another form.

    Args:
        template: jinja2 source.
        special_tokens: of the tokenizer; they decide where a template has no marks.
    """
    if not re.search(r"\btools\b", template):
        return None
    if any(mark in template for mark in _UNREAD) or ("<function=" in template and "<parameter=" not in template):
        return None
    for style, marks in _MARKS:
        needed = _NEEDED.get(style.family, ())
        if any(mark in template for mark in marks) and all(
            text in template or text in special_tokens for text in needed
        ):
            return style
    for style, marks in _MARKS:
        if style.family not in _NEEDED and any(mark in special_tokens for mark in marks):
            return style
    return LLAMA if _BARE.search(template) else None


def reasoning_style(template: str, special_tokens: Collection[str] = ()) -> ReasoningStyle | None:
    """The marks around reasoning; None if the template and the tokenizer have none."""
    for style in _REASONING:
        if style.closes in template or style.closes in special_tokens:
            return replace(style, drops=_RESPONSE) if _RESPONSE[1] in template else style
    return None


def is_harmony(template: str) -> bool:
    """Whether answers are written in the channels of OpenAI's harmony format."""
    return "<|channel|>" in template


@dataclass(frozen=True)
class ThinkingSwitch:
    """The variable of a chat template that decides about reasoning."""

    variable: str
    levels: tuple[str, ...] = ()  #: its values; none: it is a bool


_SWITCHES = ("enable_thinking", "thinking", "reasoning")
_LEVELS = ThinkingSwitch("reasoning_effort", ("low", "medium", "high"))
_CODE = re.compile(r"\{[{%](.*?)[%}]\}", re.DOTALL)
_TEXTS = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)


def thinking_switch(template: str) -> ThinkingSwitch | None:
    """The switch of a template; None if it has none.

    Args:
        template: jinja2 source.
    """
    code = " ; ".join(_TEXTS.sub("''", block) for block in _CODE.findall(template))
    for name in _SWITCHES:
        if _is_given(code, name):
            return ThinkingSwitch(name)
    return _LEVELS if _is_given(code, _LEVELS.variable) else None


def _is_given(code: str, name: str) -> bool:
    """Whether code reads a variable that it does not set itself, unless where nobody else has."""
    if not re.search(rf"(?<![\w.]){name}\b(?!\s*=[^=])", code):
        return False
    return re.search(rf"\bset\s+{name}\b", code) is None or re.search(rf"\b{name}\s+is\s", code) is not None


def opened(prompt: str, style: ReasoningStyle | None) -> bool:
    """Whether a prompt ends within reasoning, so that the answer begins there."""
    return style is not None and prompt.rstrip().endswith(style.opens)
