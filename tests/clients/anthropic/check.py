"""anthropic for Python, which compares every answer with its types (``_strict_response_validation``)."""

from __future__ import annotations

from typing import Any

import anthropic
from anthropic.types import MessageParam, ToolParam
from checks import CHAT, CLASSIFIER, RECITER, SMALL, TURNS, URL, Skip, check, main

client = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0, timeout=60, _strict_response_validation=True)
MESSAGES: list[MessageParam] = [{"role": "user", "content": "abc"}]


TOOLS: list[ToolParam] = [
    {
        "name": "get_weather",
        "description": "The weather of a city.",
        "input_schema": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
    }
]


def refusal(**arguments: Any) -> anthropic.APIStatusError:
    """The error of a call."""
    given = {"model": CHAT, "messages": MESSAGES, "max_tokens": 9, **arguments}
    try:
        client.messages.create(**given)
    except anthropic.APIStatusError as error:
        return error
    raise AssertionError("the call was accepted")


@check
def answers_a_message() -> None:
    for model in (CHAT, TURNS):
        answer = client.messages.create(model=model, messages=MESSAGES, max_tokens=9)
        [block] = answer.content
        assert block.type == "text" and len(block.text) == 9
        assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 9)
        assert answer._request_id


@check
def streams_the_message() -> None:
    whole = client.messages.create(model=CHAT, messages=MESSAGES, max_tokens=9)
    with client.messages.stream(model=CHAT, messages=MESSAGES, max_tokens=9) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.content[0].type == whole.content[0].type == "text"
    assert text == final.content[0].text == whole.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", 9)
    kinds = [event.type for event in client.messages.create(model=CHAT, messages=MESSAGES, max_tokens=2, stream=True)]
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")


@check
def names_the_stop_sequence() -> None:
    whole = client.messages.create(model=CHAT, messages=MESSAGES, max_tokens=9).content[0]
    assert whole.type == "text"
    answer = client.messages.create(model=CHAT, messages=MESSAGES, max_tokens=9, stop_sequences=[whole.text[3:6]])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", whole.text[3:6])


@check
def counts_tokens() -> None:
    answer = client.messages.create(model=CHAT, messages=MESSAGES, max_tokens=1, system="a")
    read = answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)
    assert client.messages.count_tokens(model=CHAT, messages=MESSAGES, system="a").input_tokens == read


@check
def continues_an_answer() -> None:
    answer = client.messages.create(model=CHAT, messages=MESSAGES, max_tokens=5)
    more: list[MessageParam] = [
        *MESSAGES,
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": "b"},
    ]
    assert client.messages.create(model=CHAT, messages=more, max_tokens=3).content


@check
def answers_in_a_schema() -> None:
    if not SMALL:
        raise Skip("the small model is not stored")
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    schema["additionalProperties"] = False
    answer = client.messages.create(
        model=SMALL,
        messages=MESSAGES,
        max_tokens=100,
        extra_body={"temperature": 0},  # the client has no name for it
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    block = answer.content[0]
    assert block.type == "text" and block.text.replace(" ", "").startswith('{"a":'), block


@check
def thinks_calls_a_tool_and_reads_its_result() -> None:
    kinds = []
    with client.messages.stream(model=RECITER, messages=MESSAGES, max_tokens=100, tools=TOOLS) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert {"thinking", "input_json"} <= set(kinds)
    thought, call = final.content
    assert thought.type == "thinking" and thought.thinking == "I need the weather."
    assert call.type == "tool_use" and call.input == {"location": "San Francisco"}
    assert final.stop_reason == "tool_use"
    chosen = client.messages.create(
        model=RECITER, messages=MESSAGES, max_tokens=100, tools=TOOLS, tool_choice={"type": "any"}
    )
    assert [block.type for block in chosen.content] == ["tool_use"]
    more: list[MessageParam] = [
        *MESSAGES,
        {"role": "assistant", "content": final.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "dry"}]},
    ]
    last = client.messages.create(model=RECITER, messages=more, max_tokens=100, tools=TOOLS).content[0]
    assert last.type == "text" and last.text == "It is dry."
    quiet = client.messages.create(model=RECITER, messages=MESSAGES, max_tokens=100, thinking={"type": "disabled"})
    assert [block.type for block in quiet.content] == ["text"]
    counts = [client.messages.count_tokens(model=RECITER, messages=MESSAGES, tools=tools) for tools in ([], TOOLS)]
    assert counts[0].input_tokens < counts[1].input_tokens


@check
def errors_have_their_classes() -> None:
    missing = refusal(model="no/such")
    assert isinstance(missing, anthropic.NotFoundError) and missing.request_id
    for more in ({"max_tokens": 0}, {"model": CLASSIFIER}, {"messages": [{"role": "user", "content": "a" * 999}]}):
        error = refusal(**more)
        assert isinstance(error, anthropic.BadRequestError), error
        assert error.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]


@check
def a_stream_can_be_left() -> None:
    for _ in range(10):
        with client.messages.stream(model=CHAT, messages=MESSAGES, max_tokens=50) as stream:
            next(iter(stream))
    assert client.messages.create(model=CHAT, messages=MESSAGES, max_tokens=2).content


main("anthropic", anthropic.__version__)
