"""For each family: calls that its grammar wrote are parsed back, however the text is cut."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from gpux.errors import UsageError
from gpux.inspect import chat_styles as styles
from gpux.pipelines.chat.tools.chosen import Parts, schemas_of
from gpux.pipelines.chat.tools.events import Answer, Event
from gpux.pipelines.chat.tools.grammar import call_format, closed
from gpux.pipelines.chat.tools.parser import Parser

THINK = styles.ReasoningStyle("<think>", "</think>")
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "minLength": 1, "maxLength": 8},
                    "days": {"type": "integer", "minimum": 0, "maximum": 16},
                    "units": {"enum": ["°C", "°F", "{", "</tool_call>"]},
                },
                "required": ["city", "days", "units"],
                "additionalProperties": False,
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "note-it",
            "parameters": {
                "type": "object",
                "properties": {"tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}},
                "required": ["tags"],
                "additionalProperties": False,
            },
        },
    },
]
FAMILIES = {
    "hermes": Parts(styles.HERMES, THINK),
    "llama": Parts(styles.LLAMA, None),
    "mistral": Parts(styles.MISTRAL, None),
    "mistral-named": Parts(styles.MISTRAL_NAMED, None),
    "phi": Parts(styles.PHI, None),
    "phi-functools": Parts(styles.PHI_FUNCTOOLS, None),
    "gemma": Parts(styles.GEMMA, None),
    "harmony": Parts(styles.HARMONY, None, True),
    "granite": Parts(styles.GRANITE, replace(THINK, drops=("<response>", "</response>"))),
    "cohere": Parts(styles.COHERE, styles.ReasoningStyle("<|START_THINKING|>", "<|END_THINKING|>")),
    "command-r": Parts(styles.COMMAND_R, None),
    "deepseek": Parts(styles.DEEPSEEK, THINK),
    "deepseek-fenced": Parts(styles.DEEPSEEK_FENCED, THINK),
    "qwen-coder": Parts(styles.QWEN_CODER, None),
    "glm": Parts(styles.GLM, THINK),
    "seed": Parts(styles.SEED, styles.ReasoningStyle("<seed:think>", "</seed:think>")),
    "nemotron": Parts(styles.NEMOTRON, THINK),
}


def byte_tokenizer(special: tuple[str, ...], added: tuple[str, ...] = ()) -> Tokenizer:
    """One token for each byte, the special tokens, and added ones that are not special, as those of Qwen."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({character: index for index, character in enumerate(alphabet)}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True) for name in ("<eos>", *special)])
    made.add_tokens([AddedToken(name, special=False) for name in added])
    return made


def read(parser: Parser, text: str, cuts: list[int]) -> Answer:
    events: list[Event] = []
    places = [0, *sorted(cuts), len(text)]
    for begin, end in pairwise(places):
        events += parser.feed(text[begin:end])
    return Answer.of([*events, *parser.finish()])


def facts(answer: Answer) -> tuple[Any, ...]:
    return answer.content, answer.reasoning, [(call.name, call.arguments, call.complete) for call in answer.calls]


@pytest.mark.parametrize("marks", ["special", "added", "text"])
@pytest.mark.parametrize("family", FAMILIES)
def test_calls_that_the_grammar_wrote_are_parsed_back(family: str, marks: str) -> None:
    pytest.importorskip("llguidance", reason="llguidance is not installed (extra `structured`)")
    from gpux.pipelines.generation.structured import answer_format, special_tokens

    parts = FAMILIES[family]
    tokens = tuple(mark for mark in parts.marks if mark[0] in "<[")
    tokenizer = byte_tokenizer(tokens if marks == "special" else (), tokens if marks == "added" else ())
    end = tokenizer.token_to_id("<eos>")
    ends = [end] + [tokenizer.token_to_id("<|end|>")] * ("<|end|>" in tokens and marks != "text")
    wanted = call_format(parts, TOOLS, special_tokens(tokenizer, (end,)).get)
    build = answer_format(tokenizer, wanted, (end,))
    assert build is not None
    for seed in range(15):
        random, constraint, ids = np.random.default_rng(seed), build(), []
        while not constraint.finished and len(ids) < 900:
            scores = random.normal(size=tokenizer.get_vocab_size()).astype(np.float32)
            scores[ends] += 4
            token = int(constraint.mask(scores).argmax())
            if token == end:
                break
            ids.append(token)
            constraint.accept(token)
        text = tokenizer.decode(ids, skip_special_tokens=False)
        whole = read(_parser(parts), text, [])
        assert whole.calls and whole.content == "", text
        for call in whole.calls:
            assert call.complete
            keys = ["city", "days", "units"] if call.name == "get_weather" else ["tags"]
            assert list(json.loads(call.arguments)) == keys
        assert facts(read(_parser(parts), text, list(range(1, len(text))))) == facts(whole)
        cuts = sorted(int(cut) for cut in random.integers(0, len(text), 6))
        assert facts(read(_parser(parts), text, cuts)) == facts(whole)


def accepted(tokenizer: Tokenizer, wanted: Any, text: str) -> bool:
    """Whether an answer of a format may be this text."""
    from gpux.pipelines.generation.structured import answer_format

    end = tokenizer.token_to_id("<eos>")
    build = answer_format(tokenizer, wanted, (end,))
    assert build is not None
    constraint = build()
    for token in [*tokenizer.encode(text).ids, end]:
        if not np.isfinite(constraint.mask(np.zeros(tokenizer.get_vocab_size(), np.float32))[token]):
            return False
        if token != end:
            constraint.accept(token)
    return True


@pytest.mark.parametrize("marks", ["special", "added", "text"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "gemma"])
def test_strict_tools_have_their_arguments_in_an_answer_of_any_text(family: str, marks: str) -> None:
    pytest.importorskip("llguidance", reason="llguidance is not installed (extra `structured`)")
    from gpux.pipelines.generation.structured import special_tokens

    parts = FAMILIES[family]
    tokens = tuple(mark for mark in parts.marks if mark[0] in "<[")
    tokenizer = byte_tokenizer(tokens if marks == "special" else (), tokens if marks == "added" else ())
    special = special_tokens(tokenizer, (tokenizer.token_to_id("<eos>"),)).get
    if family == "harmony" and marks == "text":
        with pytest.raises(UsageError, match="strict"):
            call_format(parts, TOOLS, special, strict=["note-it"])
        return
    wanted = call_format(parts, TOOLS, special, strict=["note-it"])
    plain = "Well, a < b & {x}: [1]\n"
    if family == "harmony":
        plain = f"<|channel|>analysis<|message|>{plain}<|end|><|start|>assistant"
        assert accepted(tokenizer, wanted, f"{plain}<|channel|>final<|message|>Hello")
    else:
        assert all(accepted(tokenizer, wanted, text) for text in ("", plain, "Hello"))
    if parts.reasoning is not None:
        thought = f"{parts.reasoning.opens}\n{plain}\n{parts.reasoning.closes}\n\n"
        assert accepted(tokenizer, wanted, thought + "Hello")
        assert accepted(tokenizer, wanted, thought + written(family, "note-it", {"tags": [True]}, canonical=True))
    before = "" if parts.tools is not None and parts.tools.bare else plain
    for arguments, fits in (({"tags": [True, False]}, True), ({"tags": [1]}, False), ({"tags": [], "more": 1}, False)):
        call = written(family, "note-it", arguments, canonical=True)
        assert accepted(tokenizer, wanted, before + call) is fits, call
    assert accepted(tokenizer, wanted, before + written(family, "get_weather", {"more": 1}, canonical=True))
    assert not accepted(tokenizer, wanted, before + written(family, "unheard_of", {"tags": []}, canonical=True))


def test_strict_tools_need_a_mark_of_calls() -> None:
    with pytest.raises(UsageError, match="strict"):
        call_format(FAMILIES["gemma"], TOOLS, lambda name: None, strict=["note-it"])


def _parser(parts: Parts) -> Parser:
    made = parts.parser("", schemas_of(TOOLS))
    assert made is not None
    return made


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
_ARGUMENTS = st.dictionaries(
    st.text(max_size=4) | st.sampled_from(["name", "arguments", "parameters"]), _JSON, max_size=3
)


def written(family: str, name: str, arguments: dict[str, Any], *, canonical: bool = False) -> str:
    """A call as a model of the family writes it; ``canonical``: exactly as its template does."""
    if canonical:
        text = json.dumps(arguments)
        if family == "llama":
            return f'{{"name": "{name}", "parameters": {text}}}'
        if family == "mistral":
            return f'[TOOL_CALLS][{{"name": "{name}", "arguments": {text}}}]'
        if family == "gemma":
            return f'```tool_code\n{{"name": "{name}", "parameters": {text}}}\n```'
        if family == "command-r":
            call = f'    {{\n        "tool_name": "{name}",\n        "parameters": {text}\n    }}'
            return f"Action: ```json\n[\n{call}\n]\n```"
        if family == "harmony":  # the mark that follows is an end token
            return written(family, name, arguments).removesuffix("<|call|>")
    text = json.dumps(arguments, ensure_ascii=False)
    pair = f'{{"name": "{name}", "arguments": {text}}}'
    tool = f'"tool_name": "{name}", "parameters": {text}'
    return {
        "hermes": f"<tool_call>\n{pair}\n</tool_call>",
        "llama": f'<|python_tag|>{{"name": "{name}", "parameters": {text}}}',
        "mistral": f"[TOOL_CALLS] [{pair}]",
        "mistral-named": f"[TOOL_CALLS]{name}[ARGS]{text}",
        "phi": f"<|tool_call|>[{pair}]<|/tool_call|>",
        "phi-functools": f"functools[{pair}]",
        "gemma": f"```tool_code\n{pair}\n```",
        "harmony": f"<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{text}<|call|>",
        "granite": f"<|tool_call|>[{pair}]",
        "cohere": f'<|START_ACTION|>[\n    {{"tool_call_id": "0", {tool}}}\n]<|END_ACTION|>',
        "command-r": f"Action: ```json\n[\n    {{{tool}}}\n]\n```",
        "deepseek": f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{text}<｜tool▁call▁end｜>"
        "<｜tool▁calls▁end｜>",
        "deepseek-fenced": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>"
        f"{name}\n```json\n{text}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "qwen-coder": f"<tool_call>\n<function={name}>\n"
        f"{elements(arguments, '<parameter=%s>', '</parameter>', line=chr(10))}</function>\n</tool_call>",
        "nemotron": f"<TOOLCALL>[{pair}]</TOOLCALL>",
        "seed": f"<seed:tool_call>\n<function={name}>\n"
        f"{elements(arguments, '<parameter=%s>', '</parameter>')}</function>\n</seed:tool_call>",
        "glm": f"<tool_call>{name}\n{elements(arguments, '<arg_key>%s</arg_key>%s<arg_value>', '</arg_value>')}"
        "</tool_call>",
    }[family]


def elements(arguments: dict[str, Any], before: str, after: str, line: str = "") -> str:
    """Arguments whose types are in no schema, so that all are written as JSON."""
    pairs = [(key, json.dumps(value, ensure_ascii=False)) for key, value in arguments.items()]
    if before.startswith("<parameter"):
        return "".join(f"{before % key}{line}{value}{line}{after}\n" for key, value in pairs)
    return "".join(f"{before % (key, chr(10))}{value}{after}\n" for key, value in pairs)


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_any_arguments_survive_any_cut(family: str, data: st.DataObject) -> None:
    arguments = data.draw(_ARGUMENTS)
    if family in (
        "qwen-coder",
        "glm",
        "seed",
    ):  # keys of which the format has no escapes, and values that it has for marks
        written_as_is = json.dumps(arguments, ensure_ascii=False)
        assume(not any(set(key) & set("<>\n") or key != key.strip() for key in arguments))
        assume("</" not in written_as_is)
    text = written(family, "note-it", arguments)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    found = read(_parser(FAMILIES[family]), text, cuts)
    assert [call.name for call in found.calls] == ["note-it"]
    assert json.loads(found.calls[0].arguments) == arguments
    assert (found.content, found.reasoning) == ("", "")


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_broken_answers_read_the_same_in_any_pieces(family: str, data: st.DataObject) -> None:
    call = written(family, "note-it", {"a": [1, "}"]})
    pieces = st.sampled_from(
        [
            call[:9],
            call[9:],
            call[:40],
            call[40:],
            call,
            " ",
            "x",
            "<think>",
            "</think>",
            "{",
            "]",
            "```",
            "<|end|>",
            '"',
        ]
    )
    text = "".join(data.draw(st.lists(pieces, max_size=6)))
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    assert facts(read(_parser(FAMILIES[family]), text, cuts)) == facts(read(_parser(FAMILIES[family]), text, []))


def test_a_grammar_names_a_tool_that_exists() -> None:
    with pytest.raises(UsageError, match="not among the tools"):
        call_format(FAMILIES["hermes"], TOOLS, lambda name: None, function="other")


@pytest.mark.parametrize("family", ["hermes", "qwen-coder"])
def test_arguments_are_an_object(family: str) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "array", "items": {}}}}
    with pytest.raises(UsageError, match="the parameters of f are of the type 'array'"):
        call_format(FAMILIES[family], [tool], lambda name: None)


def test_arguments_have_no_other_properties_unless_the_schema_says_so() -> None:
    inner = {"type": "object", "properties": {"properties": {"type": "string"}}}
    schema = {"properties": {"a": inner, "b": {"items": inner}, "c": {"properties": {}, "additionalProperties": True}}}
    shut = {**inner, "additionalProperties": False}
    assert closed(schema) == {
        "properties": {"a": shut, "b": {"items": shut}, "c": schema["properties"]["c"]},
        "additionalProperties": False,
    }
    assert closed({"allOf": [inner]}) == {"allOf": [inner]}
    assert closed(True) is True
