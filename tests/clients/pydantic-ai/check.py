"""pydantic-ai, by chats, responses and Anthropic's messages."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

from checks import CHAT, RECITER, URL, check, main
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

_openai = OpenAIProvider(base_url=f"{URL}/v1", api_key="none")
_anthropic = AnthropicProvider(base_url=URL, api_key="none")


def models(name: str) -> list[Any]:
    """The models of every API."""
    chat, response = OpenAIChatModel(name, provider=_openai), OpenAIResponsesModel(name, provider=_openai)
    return [chat, response, AnthropicModel(name, provider=_anthropic)]


MODELS = models(CHAT)


def get_weather(location: str) -> str:
    """The weather of a city."""
    assert location == "San Francisco"
    return "dry"


def whole() -> str:
    """What the model writes to ``abc``, until a text that occurs in it."""
    return Agent(MODELS[0], model_settings={"max_tokens": 9}).run_sync("abc").output


@check
def answers_by_every_api() -> None:
    text = whole()
    for model in MODELS:
        found = Agent(model, model_settings={"max_tokens": 9}).run_sync("abc")
        assert found.output == text, (model, found.output)
        assert found.usage.output_tokens == 9


@check
def streams_by_every_api() -> None:
    text = whole()

    async def streamed(model: Any) -> str:
        async with Agent(model, model_settings={"max_tokens": 9}).run_stream("abc") as result:
            return "".join([piece async for piece in result.stream_text(delta=True)])

    async def each() -> list[str]:
        return [await streamed(model) for model in MODELS]

    assert asyncio.run(each()) == [text] * len(MODELS)


@check
def calls_a_tool_by_every_api() -> None:
    for model in models(RECITER):
        found = Agent(model, tools=[get_weather], model_settings={"max_tokens": 200}).run_sync("Rain?")
        assert found.output == "It is dry.", (model, found.output)
        kinds = [part.part_kind for message in found.all_messages() for part in message.parts]
        assert {"thinking", "tool-call", "tool-return", "text"} <= set(kinds), (model, kinds)


@check
def streams_a_call_by_every_api() -> None:
    async def streamed(model: Any) -> str:
        agent = Agent(model, tools=[get_weather], model_settings={"max_tokens": 200})
        async with agent.run_stream("Rain?") as result:
            return "".join([piece async for piece in result.stream_text(delta=True)])

    async def each() -> list[str]:
        return [await streamed(model) for model in models(RECITER)]

    assert asyncio.run(each()) == ["It is dry."] * 3


main("pydantic-ai", version("pydantic-ai-slim"))
