"""haystack-ai: generators and embedders of OpenAI's API."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from checks import CHAT, EMBEDDER, RECITER, URL, check, main
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage, Document
from haystack.tools import Tool
from haystack.utils import Secret

GIVEN: dict[str, Any] = {"api_key": Secret.from_token("none"), "api_base_url": f"{URL}/v1"}
ASKED = [ChatMessage.from_user("abc")]


@check
def answers_and_streams_a_chat() -> None:
    generator = OpenAIChatGenerator(model=CHAT, generation_kwargs={"max_completion_tokens": 9}, **GIVEN)
    [reply] = generator.run(ASKED)["replies"]
    assert len(reply.text) == 9
    pieces: list[str] = []
    [streamed] = generator.run(ASKED, streaming_callback=lambda chunk: pieces.append(chunk.content))["replies"]
    assert streamed.text == "".join(pieces) == reply.text


@check
def answers_and_streams_a_response() -> None:
    generator = OpenAIResponsesChatGenerator(model=CHAT, generation_kwargs={"max_output_tokens": 9}, **GIVEN)
    [reply] = generator.run(ASKED)["replies"]
    assert len(reply.text) == 9
    pieces: list[str] = []
    [streamed] = generator.run(ASKED, streaming_callback=lambda chunk: pieces.append(chunk.content))["replies"]
    assert "".join(pieces) == streamed.text == reply.text


def weather() -> Tool:
    """A tool, which the checks do not run."""
    schema = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
    return Tool("get_weather", "The weather of a city.", schema, lambda location: location)


@check
def calls_a_tool_and_reads_its_result() -> None:
    tools = [weather()]
    for kind in (OpenAIChatGenerator, OpenAIResponsesChatGenerator):
        generator = kind(model=RECITER, tools=tools, **GIVEN)
        [reply] = generator.run(ASKED)["replies"]
        assert reply.tool_call.arguments == {"location": "San Francisco"}
        [streamed] = generator.run(ASKED, streaming_callback=lambda chunk: None)["replies"]
        assert streamed.tool_call.arguments == reply.tool_call.arguments
        result = ChatMessage.from_tool("dry", origin=reply.tool_call)
        assert generator.run([*ASKED, reply, result])["replies"][0].text == "It is dry."


@check
def embeds_texts_and_documents() -> None:
    vector = OpenAITextEmbedder(model=EMBEDDER, **GIVEN).run("a")["embedding"]
    [document] = OpenAIDocumentEmbedder(model=EMBEDDER, **GIVEN).run([Document(content="a")])["documents"]
    assert document.embedding == vector
    assert len(vector) == 32


main("haystack-ai", version("haystack-ai"))
