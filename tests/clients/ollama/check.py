"""ollama for Python: every method, at once and as streams."""

from __future__ import annotations

import asyncio
import json
from importlib.metadata import version
from typing import Any

from checks import CHAT, CLASSIFIER, EMBEDDER, FORMAT, RECITER, SMALL, URL, Skip, check, main
from ollama import AsyncClient, Client, ResponseError

client = Client(host=URL, timeout=60)
MESSAGES = [{"role": "user", "content": "abc"}]
NINE = {"num_predict": 9, "temperature": 0}


@check
def lists_models_by_names_that_it_can_use() -> None:
    names = [one.model for one in client.list().models]
    assert f"{CHAT}:fp32" in names and f"{EMBEDDER}:fp32" in names
    assert CLASSIFIER not in str(names)
    for name in names:
        assert client.show(name).details.format == FORMAT
    shown = client.show(CHAT)
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo["llama.context_length"] == 64


@check
def answers_a_chat() -> None:
    found = client.chat(CHAT, MESSAGES, options=NINE)
    assert len(found.message.content) == 9
    assert (found.done, found.done_reason, found.eval_count) == (True, "length", 9)
    assert found.total_duration >= found.load_duration > 0


@check
def streams_a_chat() -> None:
    whole = client.chat(CHAT, MESSAGES, options=NINE).message.content
    pieces = list(client.chat(CHAT, MESSAGES, options=NINE, stream=True))
    assert "".join(piece.message.content for piece in pieces) == whole
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]


@check
def streams_in_asyncio() -> None:
    async def run() -> str:
        text = ""
        async for piece in await AsyncClient(host=URL).chat(CHAT, MESSAGES, options=NINE, stream=True):
            text += piece.message.content
        return text

    assert len(asyncio.run(run())) == 9


@check
def generates() -> None:
    found = client.generate(CHAT, "abc", options=NINE)
    assert len(found.response) == 9
    assert "".join(one.response for one in client.generate(CHAT, "abc", options=NINE, stream=True)) == found.response
    assert client.generate(CHAT, "abc", options=NINE, raw=True).response != found.response
    assert client.generate(CHAT, "abc", system="b", options=NINE).response != found.response


@check
def reports_log_probabilities() -> None:
    found = client.chat(CHAT, MESSAGES, options=NINE, logprobs=True, top_logprobs=2)
    assert "".join(one.token for one in found.logprobs) == found.message.content
    assert all(len(one.top_logprobs) == 2 for one in found.logprobs)


@check
def gives_structured_output() -> None:
    if not SMALL:
        raise Skip("the small model is not stored")
    schema = {"type": "object", "properties": {"legs": {"type": "integer"}}, "required": ["legs"]}
    for seed in range(4):
        found = client.chat(
            SMALL, [{"role": "user", "content": "Describe a dog."}], format=schema, options={"seed": seed}
        )
        if found.done_reason == "stop":
            assert isinstance(json.loads(found.message.content)["legs"], int)
            return
    raise AssertionError("no answer ended")


def get_weather(location: str) -> str:
    """The weather of a city.

    Args:
        location: the city
    """
    return "dry" if location == "San Francisco" else "wet"


@check
def thinks_calls_a_tool_and_reads_its_result() -> None:
    assert client.show(RECITER).capabilities == ["completion", "tools", "thinking"]
    messages: list[Any] = [{"role": "user", "content": "Rain?"}]
    pieces = list(client.chat(RECITER, messages, tools=[get_weather], stream=True))
    assert "".join(piece.message.thinking or "" for piece in pieces) == "I need the weather."
    [streamed] = [call for piece in pieces for call in piece.message.tool_calls or []]
    answer = client.chat(RECITER, messages, tools=[get_weather])
    [call] = answer.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", {"location": "San Francisco"})
    assert streamed.function == call.function and answer.done_reason == "stop"
    result = {"role": "tool", "content": get_weather(**call.function.arguments), "tool_name": call.function.name}
    last = client.chat(RECITER, [*messages, answer.message, result], tools=[get_weather])
    assert last.message.content == "It is dry."


@check
def thinks_or_not() -> None:
    for think in (None, True, False):
        answer = client.chat(RECITER, MESSAGES, think=think).message
        whole = client.generate(RECITER, "abc", think=think)
        assert answer.content == whole.response == "Hello there, you."
        assert answer.thinking == whole.thinking == (None if think is False else "A greeting.")
    try:
        client.chat(CHAT, MESSAGES, think=True)
    except ResponseError as error:
        assert (error.status_code, "does not support thinking" in error.error) == (400, True)
    else:
        raise AssertionError


@check
def embeds_texts() -> None:
    found = client.embed(EMBEDDER, ["the cat", "a"])
    assert [len(vector) for vector in found.embeddings] == [32, 32]
    assert abs(sum(value**2 for value in found.embeddings[0]) - 1) < 1e-4
    assert found.prompt_eval_count > 0
    assert len(client.embed(EMBEDDER, "a", dimensions=8, truncate=False).embeddings[0]) == 8
    assert len(client.embeddings(EMBEDDER, "a").embedding) == 32


@check
def loads_and_unloads_models() -> None:
    assert client.generate(CHAT).done_reason == "load"
    [one] = [one for one in client.ps().models if one.model == f"{CHAT}:fp32"]
    assert one.context_length == 64 and one.expires_at is not None
    assert client.generate(CHAT, keep_alive=-1).done_reason == "load"
    assert client.chat(CHAT, [], keep_alive=0).done_reason == "unload"
    assert f"{CHAT}:fp32" not in [one.model for one in client.ps().models]


@check
def errors_have_their_status() -> None:
    calls = {
        404: lambda: client.chat("no/such", MESSAGES),
        400: lambda: client.generate(CHAT, "abc", suffix="d"),
        501: lambda: client.create("mine", from_=CHAT),
    }
    for status, call in calls.items():
        try:
            call()
        except ResponseError as error:
            assert error.status_code == status, error
        else:
            raise AssertionError(status)
    try:
        list(client.chat("no/such", MESSAGES, stream=True))
    except ResponseError as error:
        assert (error.status_code, "not found" in error.error) == (404, True)
    else:
        raise AssertionError
    for call in (lambda: client.copy(CHAT, "mine"), lambda: client.push("mine"), lambda: client.pull("./folder")):
        try:
            call()
        except ResponseError as error:
            assert error.status_code in (403, 501)
        else:
            raise AssertionError


@check
def a_stream_can_be_left() -> None:
    for _ in range(10):
        for _piece in client.chat(CHAT, MESSAGES, options={"num_predict": 50}, stream=True):
            break
    assert client.chat(CHAT, MESSAGES, options=NINE).done


main("ollama", version("ollama"))
