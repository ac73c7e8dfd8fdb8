"""litellm: the routes of Ollama and of OpenAI."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it loads a table from the network

import litellm
from checks import CHAT, EMBEDDER, RECITER, URL, check, main

MESSAGES = [{"role": "user", "content": "abc"}]
ROUTES = {
    "ollama_chat": {"model": f"ollama_chat/{CHAT}", "api_base": URL},
    "openai": {"model": f"openai/{CHAT}", "api_base": f"{URL}/v1", "api_key": "none"},
}


def complete(route: str, **arguments: Any) -> Any:
    """The answer to a chat."""
    return litellm.completion(**ROUTES[route], messages=MESSAGES, max_tokens=9, temperature=0, **arguments)


@check
def answers_a_chat() -> None:
    found = [complete(route) for route in ROUTES]
    assert len({one.choices[0].message.content for one in found}) == 1
    for one in found:
        assert len(one.choices[0].message.content) == 9
        assert one.usage.completion_tokens == 9


@check
def streams_the_answer() -> None:
    for route in ROUTES:
        pieces = [one.choices[0].delta.content or "" for one in complete(route, stream=True)]
        assert "".join(pieces) == complete(route).choices[0].message.content


@check
def generates_by_ollamas_older_route() -> None:
    found = litellm.completion(model=f"ollama/{CHAT}", api_base=URL, messages=MESSAGES, max_tokens=9, temperature=0)
    assert len(found.choices[0].message.content) == 9


@check
def calls_a_tool_and_reads_its_result() -> None:
    schema = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": schema}}]
    for route in (
        {"model": f"ollama_chat/{RECITER}", "api_base": URL},
        {"model": f"openai/{RECITER}", "api_base": f"{URL}/v1", "api_key": "none"},
        {"model": f"anthropic/{RECITER}", "api_base": URL, "api_key": "none", "max_tokens": 200},
    ):
        answer = litellm.completion(**route, messages=MESSAGES, tools=tools).choices[0].message
        [call] = answer.tool_calls
        assert json.loads(call.function.arguments) == {"location": "San Francisco"}, route
        pieces = list(litellm.completion(**route, messages=MESSAGES, tools=tools, stream=True))
        streamed = litellm.stream_chunk_builder(pieces, messages=MESSAGES)
        [same] = streamed.choices[0].message.tool_calls
        assert json.loads(same.function.arguments) == json.loads(call.function.arguments), route
        result = {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": "dry"}
        last = litellm.completion(**route, messages=[*MESSAGES, answer.model_dump(), result], tools=tools)
        assert last.choices[0].message.content == "It is dry.", route


@check
def embeds_texts() -> None:
    texts = ["the cat", "a"]
    for route in (
        {"model": f"ollama/{EMBEDDER}", "api_base": URL},
        {"model": f"openai/{EMBEDDER}", "api_base": f"{URL}/v1", "api_key": "none", "encoding_format": "float"},
    ):
        found = litellm.embedding(**route, input=texts)
        assert [len(one["embedding"]) for one in found.data] == [32, 32]


@check
def a_missing_model_is_an_error() -> None:
    for route in (
        {"model": "ollama_chat/no/such", "api_base": URL},
        {"model": "openai/no/such", "api_base": f"{URL}/v1", "api_key": "none"},
    ):
        try:
            litellm.completion(**route, messages=MESSAGES, num_retries=0)
        except Exception as error:  # of a class that depends on the route
            assert "not found" in str(error) or "not stored" in str(error)
        else:
            raise AssertionError(route)


main("litellm", version("litellm"))
