"""Chat templates: prompts equal to transformers', and named errors for everything that cannot be rendered."""

from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from gpux.errors import ChatTemplateError, CorruptFileError, InputError, UsageError
from gpux.pipelines.chat import environment as chat_environment
from gpux.pipelines.chat.messages import function_schema
from gpux.pipelines.chat.template import ChatTemplate
from tests.pipelines.chat_shapes import CALLED, NOW, PARTS, SHAPES, SYSTEM, USER, WEATHER, source, write

GOLDENS = json.loads((Path(__file__).parent / "chat_goldens.json").read_text(encoding="utf-8"))["shapes"]
CASES = [(shape, case) for shape in SHAPES for case in SHAPES[shape].cases]


@pytest.fixture(autouse=True)
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_environment, "local_time", lambda: NOW)


def prompt(template: str, messages: Any = (USER,), **options: Any) -> str:
    return ChatTemplate({"default": template}, {"bos_token": "<s>", "eos_token": "</s>"}).render(messages, **options)


@pytest.mark.parametrize(("shape", "case"), CASES, ids=str)
def test_as_transformers(shape: str, case: str, tmp_path: Path) -> None:
    template = ChatTemplate.load(write(SHAPES[shape], tmp_path))
    arguments = {"add_generation_prompt": False, **SHAPES[shape].cases[case]}
    named = {"template": arguments.pop("chat_template")} if "chat_template" in arguments else {}
    golden = GOLDENS[shape][case]
    if "text" in golden:
        assert template.render(**arguments, **named) == golden["text"]
    else:
        with pytest.raises(ChatTemplateError) as caught:
            template.render(**arguments, **named)
        assert str(caught.value) == f"the chat template refuses these messages: {golden['error']}"


def test_every_shape_and_case_has_a_golden() -> None:
    assert {(shape, case) for shape in GOLDENS for case in GOLDENS[shape]} == set(CASES)
    kinds = ["text" in golden for shape in GOLDENS.values() for golden in shape.values()]
    assert (sum(kinds) >= 80, kinds.count(False) >= 5) == (True, True)


# Places of templates


def test_template_files_override_configurations(tmp_path: Path) -> None:
    def names_and_default() -> tuple[tuple[str, ...], str]:
        found = ChatTemplate.load(tmp_path)
        return found.names, found.choose()

    assert ChatTemplate.load(tmp_path).names == ()
    (tmp_path / "chat_template.json").write_text('{"chat_template": "{{ 1 }}"}')
    assert names_and_default() == (("default",), "{{ 1 }}")
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": [{"name": "default", "template": "{{ 2 }}"}]}')
    assert names_and_default() == (("default",), "{{ 2 }}")
    (tmp_path / "chat_template.jinja").write_text("{{ 3 }}")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("{{ 4 }}")
    assert names_and_default() == (("default", "tool_use"), "{{ 3 }}")
    assert ChatTemplate.load(tmp_path).choose(tools=True) == "{{ 4 }}"


@pytest.mark.parametrize("odd", [None, 5, {"default": 7}, [{"name": 3}, "x"], {}])
def test_unexpected_values_are_ignored(odd: Any, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": odd, "bos_token": 5}))
    assert ChatTemplate.load(tmp_path) == ChatTemplate({}, {})


def test_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(CorruptFileError, match=r"chat_template\.jinja is not UTF-8 text"):
        ChatTemplate.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CorruptFileError, match="is not JSON"):
        ChatTemplate.load(tmp_path)


def test_choosing_a_template() -> None:
    with pytest.raises(ChatTemplateError, match="not trained for chat") as caught:
        ChatTemplate({}).render([USER])
    assert "give chat_template=" in str(caught.value.hint)
    assert ChatTemplate({}, {"eos_token": "<e>"}).render([USER], template="{{ eos_token }}") == "<e>"
    with pytest.raises(ChatTemplateError, match=r"and no default: rag, tools"):
        ChatTemplate({"tools": "{{ 1 }}", "rag": "{{ 2 }}"}).render([USER])
    with pytest.raises(UsageError, match="no chat template has the name 'rga': the model has rag"):
        ChatTemplate({"rag": "{{ 2 }}"}).render([USER], template="rga")


def test_an_empty_list_of_tools_uses_the_default_template() -> None:
    assert ChatTemplate({"default": "{{ tools is none }}", "tool_use": "{{ 2 }}"}).render([USER], tools=[]) == "True"


def test_a_template_pickles_and_is_safe_to_use_from_threads() -> None:
    template = pickle.loads(pickle.dumps(ChatTemplate({"default": source("chatml")})))
    expected = GOLDENS["chatml"]["system"]["text"]
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(template.render(SYSTEM))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


# Messages


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ("hello", "messages are a list of dicts, and this is a str"),
        (USER, "this is a dict"),
        ([], "there are no messages"),
        (["hello"], "message 0 is not a dict, but a str"),
        ([USER, {"content": "x"}], "message 1 has no role"),
        ([{"role": 5, "content": "x"}], "message 0 has no role"),
        ([{"role": "user"}], "message 0 has no content"),
        ([{"role": "assistant", "content": None, "tool_calls": []}], "message 0 has no content"),
        ([{"role": "user", "content": 5}], "message 0 has an int for its content"),
        ([{"role": "user", "content": ["x"]}], "message 0 has a part that is not a dict"),
        ([{"role": "user", "content": [{"type": "text"}]}], "message 0 has a text part without its text"),
        ([{"role": "user", "content": "a\udcff"}], "message 0 is not valid Unicode text: a lone surrogate, U+DCFF"),
        ([{"role": "user", "content": "x", "image": object()}], "message 0 contains an object"),
        ([{"role": "assistant", "tool_calls": "x"}], "message 0 has tool_calls that are not a list"),
        ([{"role": "assistant", "tool_calls": [{"function": {}}]}], "message 0 has a tool call without the name"),
    ],
)
def test_invalid_messages(messages: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        prompt(source("chatml"), messages)
    assert said in str(caught.value) and caught.value.hint


def test_a_message_that_contains_itself() -> None:
    message: dict[str, Any] = dict(USER)
    message["again"] = message
    with pytest.raises(InputError, match="nested too deeply"):
        prompt(source("chatml"), [message])


def test_arguments_as_json_text_are_the_object() -> None:
    call = CALLED[1]["tool_calls"][0]
    text = json.dumps(call["function"]["arguments"])
    spelt = {**CALLED[1], "tool_calls": [{**call, "function": {**call["function"], "arguments": text}}]}
    messages = [CALLED[0], spelt, CALLED[2]]
    assert prompt(source("chatml-tools"), messages, tools=[WEATHER]) == GOLDENS["chatml-tools"]["called"]["text"]
    assert spelt["tool_calls"][0]["function"]["arguments"] == text  # the caller's own message


def test_text_for_a_template_of_parts() -> None:
    """The template loops over parts, and would silently omit a text."""
    one = [{"role": "user", "content": "What is it? Say."}]
    assert prompt(source("vision"), one) == "User: What is it? Say.<end_of_utterance>\nAssistant:"


def test_parts_for_a_template_of_text() -> None:
    parts = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in SYSTEM]
    for shape in ("chatml", "chatml-tools", "llama-3", "gemma", "mistral"):
        messages = parts[1:] if shape == "gemma" else parts
        text = [{**message, "content": message["content"][0]["text"]} for message in messages]
        assert prompt(source(shape), messages) == prompt(source(shape), text), shape
    for written in ("{{ messages[0].content }}", "{{ 'a' ~ messages[0].content }}", "{{ messages[0].content | trim }}"):
        with pytest.raises(ChatTemplateError, match="reads content as text, and got a list of parts"):
            prompt(written, PARTS)


@pytest.mark.parametrize("shape", ["chatml", "llama-3", "smol"])
def test_a_continued_message_ends_the_prompt(shape: str) -> None:
    begun = [USER, {"role": "assistant", "content": "It is "}]
    text = prompt(source(shape), begun, continue_final_message=True)
    assert text.endswith("It is " if shape != "llama-3" else "It is")  # llama-3 trims its messages
    parts = [USER, {"role": "assistant", "content": [{"type": "text", "text": "It is "}]}]
    assert prompt(source(shape), parts, continue_final_message=True) == text


def test_messages_that_cannot_be_continued() -> None:
    with pytest.raises(ChatTemplateError, match="has no text that could be continued"):
        prompt(source("chatml-tools"), CALLED[:2], continue_final_message=True)
    with pytest.raises(ChatTemplateError, match="does not render the end of the last message, of the role user"):
        prompt("{{ messages[0].content[:3] }}", continue_final_message=True)


# Templates that fail


BROKEN = {
    "{% if %}": "at line 1 is broken: Expected an expression",
    "a\n{{ 'x'|nofilter }}": "at line 2 is broken: No filter named 'nofilter'",
    "{% for a in [1] %}" * 30 + "{% endfor %}" * 30: "is broken: SyntaxError",
    "{{ " + "(" * 3000 + ")" * 3000 + " }}": "is broken: RecursionError",
    "a\n\n{{ nothing.at.all }}": "at line 3 needs a missing value: 'nothing' is undefined",
    "{{ raise_exception('Only ' ~ 1) }}": "refuses these messages: Only 1",
    "{{ 'a' + 1 }}": "at line 1 failed: TypeError",
    "{{ 1 / 0 }}": "at line 1 failed: ZeroDivisionError",
    "{{ nothing | tojson }}": "at line 1 failed: TypeError: Object of type Undefined",
    "{% include 'x' %}": "at line 1 failed: TypeError",
    "{{ strftime_now(5) }}": "at line 1 failed: TypeError",
    "{{ ''.__class__.__mro__ }}": "is not allowed to do this: access to attribute '__class__'",
    "{{ messages.append(1) }}": "is not allowed to do this: access to attribute 'append'",
    "{% set ns = namespace() %}{% set ns.__init__ = 1 %}": "is not allowed to do this: the name '__init__'",
    "{{ namespace(__class__=1) }}": "is not allowed to do this: the name '__class__'",
    "{{ range(10**9) }}": "failed: OverflowError: Range too big",
    "{{ 'a' * 10**12 }}": "is not allowed to do this: more than 32000000 characters",
    "{{ [1] * 10**12 }}": "is not allowed to do this: more than 32000000 characters",
    "{{ 9 ** 9999999 }}": "is not allowed to do this: a power with too many digits",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "failed: RecursionError",
    "{% set r = range(99999) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}": "than 2000000 iterations",
    "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}": "32000000 char",
    "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}": "32000000 char",
    "{% for i in range(400) %}{{ 'a' * 100000 }}{% endfor %}": "more than 32000000 characters",
}


@pytest.mark.parametrize("template", BROKEN, ids=lambda template: template[:40])
def test_a_failing_template(template: str) -> None:
    with pytest.raises(ChatTemplateError) as caught:
        prompt(template)
    assert BROKEN[template] in str(caught.value)
    assert caught.value.hint


def test_a_template_gets_plain_values_only() -> None:
    class Loud(str):
        def shout(self) -> str:
            return self.upper()

    assert prompt("{{ messages[0].content.shout is defined }}", [{"role": "user", "content": Loud("x")}]) == "False"
    with pytest.raises(InputError, match="a variable contains a function"):
        prompt("{{ f() }}", f=lambda: 1)
    with pytest.raises(InputError, match=r"a document contains a (Posix|Windows)Path"):
        prompt("{{ 1 }}", documents=[{"text": Path()}])


# Tools


def test_tools_that_cannot_be_described() -> None:
    def bare(a: int) -> int:
        return a

    def untyped(a, b: int = 1):  # type: ignore[no-untyped-def]
        """Adds.

        Args:
            a: one
            b: two
        """

    def undescribed(a: int) -> None:
        """Adds."""

    def odd(a: Path) -> None:
        """Opens.

        Args:
            a: where
        """

    def many(*names: str) -> None:
        """Joins.

        Args:
            names: all
        """

    said = {
        bare: "bare has no docstring",
        untyped: "untyped does not give a a type",
        undescribed: "undescribed does not give a a description under Args:",
        odd: "odd has a parameter or result of the type <class 'pathlib.Path'>",
        many: "many accepts any number of arguments as names",
    }
    for function, words in said.items():
        with pytest.raises(InputError) as caught:
            function_schema(function)
        assert words in str(caught.value) and "Give the tool as a dict" in str(caught.value.hint)
    for tools, words in (("x", "tools are a list"), ([5], "tool 0 is neither"), ([{"a": object()}], "tool 0 contains")):
        with pytest.raises(InputError, match=words):
            prompt("{{ 1 }}", tools=tools)


def test_a_bound_method_is_a_tool() -> None:
    class Desk:
        def find(self, name: str) -> str:
            """Finds a file.

            Args:
                name: its name
            """
            return name

    described = function_schema(Desk().find)["function"]
    assert described["parameters"]["required"] == ["name"]


def test_arguments_are_texts_where_the_template_joins_them_with_texts() -> None:
    call = "{% for call in message.tool_calls or [] %}{{ call.function.name + '(' + call.function.arguments + ')' }}"
    call += "{% endfor %}"
    source = "{% for message in messages %}{{ message.content or '' }}" + call + "{% endfor %}"
    function = {"name": "f", "arguments": {"a": "ü"}}
    for arguments in (function["arguments"], '{"a": "ü"}'):
        made = {"type": "function", "function": {**function, "arguments": arguments}}
        messages = [{"role": "user", "content": "Hi "}, {"role": "assistant", "tool_calls": [made]}]
        assert ChatTemplate({"default": source}).render(messages) == 'Hi f({"a": "ü"})'
