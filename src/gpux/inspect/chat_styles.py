"""How models write calls of tools and reasoning: read from a chat template, never from a model's name."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Family = Literal["hermes", "llama", "mistral", "phi", "gemma", "harmony"]


@dataclass(frozen=True)
class ToolStyle:
    """How a family writes calls.

    Args:
        family: its name.
        opens: texts that begin calls; the longest that fits counts.
        closes: texts that end them, if there are any.
        bare: an answer that begins with a JSON object is a call, if that has the name of a tool and arguments.
        arguments: name of the arguments in calls that are written under a grammar.
        named: the name of a tool comes before its arguments, and not within the same object.
    """

    family: Family
    opens: tuple[str, ...]
    closes: tuple[str, ...] = ()
    bare: bool = False
    arguments: str = "arguments"
    named: bool = False


@dataclass(frozen=True)
class ReasoningStyle:
    """What is around the reasoning of a model."""

    opens: str
    closes: str


HERMES = ToolStyle("hermes", ("<tool_call>",), ("</tool_call>",))
LLAMA = ToolStyle("llama", ("<|python_tag|>",), ("<|eom_id|>",), bare=True, arguments="parameters")
MISTRAL = ToolStyle("mistral", ("[TOOL_CALLS]",))
MISTRAL_NAMED = ToolStyle("mistral", ("[TOOL_CALLS]",), named=True)
PHI = ToolStyle("phi", ("<|tool_call|>", "functools["), ("<|/tool_call|>",))
PHI_FUNCTOOLS = ToolStyle("phi", ("functools[", "<|tool_call|>"), ("<|/tool_call|>",))
GEMMA = ToolStyle("gemma", ("```tool_code", "```tool_call", "```json"), ("```",), bare=True, arguments="parameters")
HARMONY = ToolStyle("harmony", ("<|channel|>", "<|start|>"), ("<|call|>", "<|end|>", "<|return|>"))

#: In order: a template with the marks of several belongs to the first.
_MARKS = (
    (HARMONY, ("<|channel|>",)),
    (HERMES, ("<tool_call>",)),
    (MISTRAL_NAMED, ("[ARGS]",)),
    (MISTRAL, ("[TOOL_CALLS]", "[AVAILABLE_TOOLS]")),
    (PHI_FUNCTOOLS, ("functools[",)),
    (PHI, ("<|tool_call|>", "<|/tool|>")),
    (GEMMA, ("tool_code", "<start_of_turn>")),
    (LLAMA, ("<|python_tag|>", "ipython")),
)
_BARE = re.compile(r"""["']parameters["']""")
_REASONING = (ReasoningStyle("<think>", "</think>"), ReasoningStyle("[THINK]", "[/THINK]"))


def tool_style(template: str, special_tokens: Collection[str] = ()) -> ToolStyle | None:
    """The style of a template that reads ``tools``; None if it reads none, or writes calls in another form.

    Args:
        template: jinja2 source.
        special_tokens: of the tokenizer; they decide where a template has no marks.
    """
    if not re.search(r"\btools\b", template):
        return None
    for style, marks in _MARKS:
        if any(mark in template for mark in marks):
            return style
    for style, marks in _MARKS:
        if any(mark in special_tokens for mark in marks):
            return style
    return LLAMA if _BARE.search(template) else None


def reasoning_style(template: str, special_tokens: Collection[str] = ()) -> ReasoningStyle | None:
    """The marks around reasoning; None if the template and the tokenizer have none."""
    for style in _REASONING:
        if style.closes in template or style.closes in special_tokens:
            return style
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
