"""pydantic-ai, by chats, responses and Anthropic's messages."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Any

from checks import CHAT, URL, check, main
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

_openai = OpenAIProvider(base_url=f"{URL}/v1", api_key="none")
MODELS: list[Any] = [
    OpenAIChatModel(CHAT, provider=_openai),
    OpenAIResponsesModel(CHAT, provider=_openai),
    AnthropicModel(CHAT, provider=AnthropicProvider(base_url=URL, api_key="none")),
]


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


main("pydantic-ai", version("pydantic-ai-slim"))
