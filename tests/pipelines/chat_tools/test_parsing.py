"""Answers in their parts: reasoning, content and calls, and what is none of these."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpux.inspect import chat_styles as styles
from gpux.pipelines.chat.tools.chosen import Parts
from gpux.pipelines.chat.tools.events import Answer, CallArguments, CallBegun, Content, Event, Reasoning
from gpux.pipelines.chat.tools.harmony import HarmonyParser
from gpux.pipelines.chat.tools.parser import AnswerParser, Parser

TEMPLATES = Path(__file__).parents[1] / "chat_templates"
THINK = styles.ReasoningStyle("<think>", "</think>")
NAMES = ("f", "g")
HERMES_CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
F = ("f", '{"a": 1}')
F_WITH_ID = '{"name": "f", "arguments": {"a": 1}, "id": "abc"}'


def parser(family: str) -> Parser:
    if family == "harmony":
        return HarmonyParser(NAMES)
    return AnswerParser(getattr(styles, family.upper()), THINK, NAMES)


@pytest.mark.parametrize(
    ("family", "text", "content", "calls"),
    [
        ("hermes", f"Well:\n{HERMES_CALL}\n{HERMES_CALL}\n", "Well:", [F, F]),
        ("hermes", f"{HERMES_CALL} done", " done", [F]),
        ("hermes", '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', "", [F]),
        ("hermes", '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [F]),
        ("hermes", '<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"a": 1}', "", [F]),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"a": "x\ny"}}</tool_call>', "", [("f", '{"a": "x\\ny"}')]),
        ("hermes", '<tool_call>{"name": "h", "arguments": {}}</tool_call>', None, []),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"a": tru}}</tool_call>', None, []),
        ("hermes", '<tool_call>{"name": "f", "arguments": {"a": 01}}</tool_call>', None, []),
        ("hermes", "the mark <tool_call> in a text <tool", None, []),
        ("llama", '{"name": "f", "parameters": {"a": 1}}', "", [F]),
        ("llama", '<|python_tag|>{"name": "f", "parameters": {"a": 1}}; {"name": "g"}<|eom_id|>', "", [F, ("g", "{}")]),
        ("llama", '{"title": "f", "more": {"a": [1]}} and text', None, []),
        ("llama", 'in a text {"name": "f", "parameters": {}}', None, []),
        ("llama", "<|python_tag|>print(1)", None, []),
        ("mistral", f'a[TOOL_CALLS][{F_WITH_ID}, {{"name": "g"}}]', "a", [F, ("g", "{}")]),
        ("mistral", '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[CALL_ID]a1[ARGS]{}', "", [F, ("g", "{}")]),
        ("mistral", "[TOOL_CALLS] nothing of the kind", None, []),
        ("phi", 'functools[{"name": "f", "arguments": {"a": 1}}]', "", [F]),
        ("phi", "functools are a module", None, []),
        ("gemma", '```tool_code\nprint(default_api.f(a=1))\n```', "", [F]),
        ("gemma", '```tool_code\n[f(a=1), g()]\n```', "", [F, ("g", "{}")]),
        ("gemma", '```json\n{"name": "f", "parameters": {"a": 1}}\n```', "", [F]),
        ("gemma", '```json\n{"a": 1}\n```', None, []),
        ("gemma", '```tool_code\nimport os\n```', None, []),
        ("harmony", "<|channel|>final<|message|>Hello<|return|>", "Hello", []),
        ("harmony", "Hello", "Hello", []),
        ("harmony", "<|channel|>commentary to=functions.h<|message|>{}<|call|>", "{}", []),
        (
            "harmony",
            "<|channel|>commentary<|message|>Well:<|end|><|start|>assistant to=functions.f<|channel|>commentary json"
            '<|message|>{"a": 1}<|call|>',
            "Well:",
            [F],
        ),
    ],
)  # fmt: skip
def test_an_answer_in_its_parts(family: str, text: str, content: str | None, calls: list[tuple[str, str]]) -> None:
    for pieces in ([text], list(text)):
        one = parser(family)
        events: list[Event] = [event for piece in pieces for event in one.feed(piece)]
        answer = Answer.of([*events, *one.finish()])
        assert answer.content == (text if content is None else content)
        assert [(call.name, call.arguments) for call in answer.calls] == calls
        assert len({call.id for call in answer.calls}) == len(calls)


@pytest.mark.parametrize(
    ("text", "in_reasoning", "reasoning", "content"),
    [
        ("<think>\nhm </thi\n</think>\n\nHello <think>", False, "hm </thi", "Hello <think>"),
        ("hm\n</think>\n\nHello", True, "hm", "Hello"),
        ("hm", True, "hm", ""),
        ("<think></think>Hello", False, "", "Hello"),
        (" Hello </think>", False, "", " Hello </think>"),
        (f"<think>{HERMES_CALL}</think>a", False, HERMES_CALL, "a"),
    ],
)
def test_reasoning_is_apart(text: str, in_reasoning: bool, reasoning: str, content: str) -> None:
    for pieces in ([text], list(text)):
        one = AnswerParser(styles.HERMES, THINK, NAMES, in_reasoning=in_reasoning)
        events = [event for piece in pieces for event in one.feed(piece)]
        answer = Answer.of([*events, *one.finish()])
        assert (answer.reasoning, answer.content, answer.calls) == (reasoning, content, [])


def test_the_analysis_of_harmony_is_reasoning() -> None:
    one = HarmonyParser(())
    text = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello"
    assert one.feed(text) == [Reasoning("hm"), Content("Hello")]


def test_text_and_arguments_come_as_they_are_written() -> None:
    one = parser("hermes")
    assert one.feed("Let me") == [Content("Let me")]
    assert one.feed(" see <") == [Content(" see")]
    assert one.feed("tool_call>\n{") == []
    begun, *more = one.feed('"name": "f", "arguments": {"ci')
    assert isinstance(begun, CallBegun) and begun.name == "f" and begun.id.startswith("call_")
    assert more == [CallArguments(0, '{"ci')]
    assert one.feed('ty": "Par') == [CallArguments(0, 'ty": "Par')]


@pytest.mark.parametrize(
    ("template", "family", "reasons"),
    [
        ("chatml", None, False),
        ("chatml-tools", "hermes", False),
        ("llama-3", None, False),
        ("llama-3.1", "llama", False),
        ("mistral", "mistral", False),
        ("gemma", None, False),
        ("thinking", None, True),
        ("deepseek", None, None),
    ],
)
def test_a_family_is_read_from_the_template(template: str, family: str | None, reasons: bool | None) -> None:
    parts = Parts.of((TEMPLATES / f"{template}.jinja").read_text())
    assert (None if parts.tools is None else parts.tools.family) == family
    assert reasons is None or parts.reasons == reasons


def test_an_answer_of_text_alone_needs_no_parser() -> None:
    assert Parts(styles.HERMES, None).parser("", ()) is None
    assert Parts(None, None).parser("", NAMES) is None


@pytest.mark.parametrize(
    ("template", "variable"),
    [
        ("{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}", "enable_thinking"),
        ("{% if not thinking is defined %}{% set thinking = false %}{% endif %}{{ thinking }}", "thinking"),
        ("{%- if tools %}{%- elif thinking %}Think!{%- endif %}", "thinking"),
        ("{{ 'high' if reasoning_effort == 'high' else '' }}", "reasoning_effort"),
        ("{% if message.thinking %}{{ message.thinking }}{% endif %}", None),
        ("{% set thinking = message.content %}{{ thinking }}", None),
        ("{% if 'thinking' in message %}is thinking{{ ' and thinking' }}{% endif %}", None),
    ],
)
def test_the_switch_of_thinking_is_read_from_the_template(template: str, variable: str | None) -> None:
    found = styles.thinking_switch(template)
    assert (found and found.variable) == variable
    assert found is None or bool(found.levels) == (variable == "reasoning_effort")
