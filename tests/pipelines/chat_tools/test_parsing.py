"""Answers in their parts: reasoning, content and calls, and what is none of these."""

from __future__ import annotations

import json
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
COHERE_CALL = '{"tool_call_id": "0", "tool_name": "f", "parameters": {"a": 1}}'
CODER_CALL = "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>"
DEEPSEEK_BEGIN = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>"
DEEPSEEK_END = "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
DEEPSEEK_UNKNOWN = f"{DEEPSEEK_BEGIN}h<｜tool▁sep｜>{{}}<｜tool▁call▁end｜>"  # without the mark after the list
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
        ("granite", '<|tool_call|>[{"name": "f", "arguments": {"a": 1}}, {"name": "g"}]', "", [F, ("g", "{}")]),
        ("granite", "the mark <|tool_call|> alone", None, []),
        ("cohere", f"<|START_ACTION|>[{COHERE_CALL}]<|END_ACTION|>", "", [F]),
        ("cohere", '<|START_ACTION|>[{"tool_name": "h", "parameters": {}}]<|END_ACTION|>', None, []),
        ("command_r", 'Action:\n```json\n[\n {"tool_name": "f", "parameters": {"a": 1}}\n]\n```', "", [F]),
        ("command_r", 'Action: ```json\n[\n {"tool_name": "directly_answer", "parameters": {}}\n]\n```', None, []),
        ("deepseek", f"Well:\n\n{DEEPSEEK_BEGIN}f<｜tool▁sep｜>{{\"a\": 1}}{DEEPSEEK_END}", "Well:", [F]),
        ("deepseek", f"{DEEPSEEK_BEGIN}h<｜tool▁sep｜>{{}}{DEEPSEEK_END}", DEEPSEEK_UNKNOWN, []),
        ("deepseek", f"{DEEPSEEK_BEGIN}f and more", None, []),
        (
            "deepseek_fenced",
            f'{DEEPSEEK_BEGIN}function<｜tool▁sep｜>f\n```json\n{{"a": 1}}\n```<｜tool▁call▁end｜>\n'
            f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{{}}\n```{DEEPSEEK_END}",
            "",
            [F, ("g", "{}")],
        ),
        ("qwen_coder", f"Well:\n{CODER_CALL}\n{CODER_CALL}", "Well:", [F, F]),
        ("qwen_coder", "<tool_call>\n<function=g>\n</function>\n</tool_call>", "", [("g", "{}")]),
        ("qwen_coder", "<tool_call><function=f><parameter=a>True</parameter></function>", "", [("f", '{"a": true}')]),
        ("qwen_coder", "<tool_call><function=h></function></tool_call>", None, []),
        ("qwen_coder", "<tool_call><function=f><parameter=a>1</tool_call>", None, []),
        ("qwen_coder", f"<tool_call>{F_WITH_ID}</tool_call>", None, []),
        ("glm", "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call> done", " done", [F]),
        ("glm", "<tool_call>f<arg_key>a</arg_key><arg_value>[1, 'x']</arg_value>", "", [("f", '{"a": [1, "x"]}')]),
        ("glm", "<tool_call>g\n</tool_call>", "", [("g", "{}")]),
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


TEXTS = {
    "f": {
        "properties": {"text": {"type": "string"}, "kind": {"enum": ["1", "2"]}, "size": {"type": ["integer", "null"]}}
    }
}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("Oslo", "Oslo"),
        ("1", "1"),
        ("\ntwo\n\nlines \n", "\ntwo\n\nlines \n"),
        ("", ""),
        ('a "b" <c>\\ {', 'a "b" <c>\\ {'),
        ("</tool_call>", "</tool_call>"),
    ],
)
def test_texts_of_elements_are_as_they_are_written(value: str, read: str) -> None:
    text = f"<tool_call>\n<function=f>\n<parameter=text>\n{value}\n</parameter>\n<parameter=kind>\n2\n</parameter>\n"
    text += "<parameter=size>\nnull\n</parameter>\n</function>\n</tool_call>"
    for pieces in ([text], list(text)):
        one = AnswerParser(styles.QWEN_CODER, None, TEXTS)
        events = [event for piece in pieces for event in one.feed(piece)]
        [call] = Answer.of([*events, *one.finish()]).calls
        assert json.loads(call.arguments) == {"text": read, "kind": "2", "size": None}
        assert events.count(CallArguments(0, "")) == 0


def test_marks_around_the_answer_are_not_part_of_it() -> None:
    for marks, text in (
        (styles.reasoning_style("</think> <response></response>"), "<think>hm</think><response>Hello</response>"),
        (
            styles.reasoning_style("<|END_THINKING|>"),
            "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Hello<|END_RESPONSE|>",
        ),
    ):
        for pieces in ([text], list(text)):
            one = AnswerParser(None, marks)
            events = [event for piece in pieces for event in one.feed(piece)]
            answer = Answer.of([*events, *one.finish()])
            assert (answer.reasoning, answer.content) == ("hm", "Hello")


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


@pytest.mark.parametrize(
    ("template", "special", "family"),
    [
        ("{% if tools %}<tools>{% endif %}<tool_call>\n<function=name>\n<parameter=key>", (), "xml"),
        ("{% if tools %}<tools>{% endif %}<tool_call>{name}\n<arg_key>", (), "xml"),
        ("{% if tools %}<|START_ACTION|>{% endif %}", (), "cohere"),
        ('{% for tool in tools %}Write "Action:" … "tool_name": …{% endfor %}', (), "command-r"),
        ("{% for tool in tools %}<｜tool▁call▁begin｜>' + name + '<｜tool▁sep｜>{% endfor %}", (), "deepseek"),
        ("{% if tools %}<|start_of_role|>system … respond with <|tool_call|>{% endif %}", (), "granite"),
        ("{% if tools %}<|start_of_role|>available_tools{% endif %}", ("<|tool_call|>",), "granite"),
        ("{% if tools %}<|tool|>{% endif %}<|/tool|>", ("<|tool_call|>",), "phi"),
        ("{% if tools %}<|start_of_role|>…<tool_call>{% endif %}", (), "hermes"),
        ("{% if tools %}<seed:tool_call>\n<function=name>\n<parameter=key>", (), "xml"),
        ("{% if tools %}<TOOLCALL>[{% endif %}", (), "nemotron"),
        ("{% if tools %}<|tool_call_start|>[f(a=1)]{% endif %}", (), None),
        ('{% if tools %}<|python_tag|><function=name>{"key": 1}</function>{% endif %}', (), None),
        ("{% if tools %}>>>name\n{% endif %}<|python_tag|>", (), None),
        ("{% if tools %}<start_function_call>call:f{% endif %}<start_of_turn>", (), None),
    ],
)
def test_marks_of_a_template_name_its_family(template: str, special: tuple[str, ...], family: str | None) -> None:
    found = styles.tool_style(template, special)
    assert (found and found.family) == family


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
