"""ollama-haystack: chats, prompts, vectors."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from checks import CHAT, EMBEDDER, RECITER, URL, check, main
from haystack import Document
from haystack.dataclasses import ChatMessage
from haystack.tools import Tool
from haystack_integrations.components.embedders.ollama import OllamaDocumentEmbedder, OllamaTextEmbedder
from haystack_integrations.components.generators.ollama import OllamaChatGenerator

NINE = {"num_predict": 9, "temperature": 0.0}


def generator(**arguments: Any) -> OllamaChatGenerator:
    """A component of Haystack."""
    return OllamaChatGenerator(model=CHAT, url=URL, generation_kwargs=NINE, **arguments)


@check
def answers_a_chat() -> None:
    [found] = generator().run([ChatMessage.from_system("a"), ChatMessage.from_user("b")])["replies"]
    assert len(found.text) == 9
    assert found.meta["usage"]["completion_tokens"] == 9


@check
def streams_the_answer() -> None:
    pieces: list[str] = []
    messages = [ChatMessage.from_user("abc")]
    [found] = generator(streaming_callback=lambda chunk: pieces.append(chunk.content)).run(messages)["replies"]
    assert "".join(pieces) == found.text == generator().run(messages)["replies"][0].text


@check
def thinks_calls_a_tool_and_reads_its_result() -> None:
    schema = {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}
    tools = [Tool("get_weather", "The weather of a city.", schema, lambda location: location)]
    asked = [ChatMessage.from_user("Rain?")]
    component = OllamaChatGenerator(model=RECITER, url=URL, tools=tools, think=True)
    [reply] = component.run(asked)["replies"]
    assert reply.tool_call.arguments == {"location": "San Francisco"}
    assert reply.reasoning.reasoning_text == "I need the weather."
    result = ChatMessage.from_tool("dry", origin=reply.tool_call)
    assert component.run([*asked, reply, result])["replies"][0].text == "It is dry."


@check
def embeds_texts() -> None:
    assert len(OllamaTextEmbedder(model=EMBEDDER, url=URL).run("the cat")["embedding"]) == 32
    documents = [Document(content="a"), Document(content="b")]
    found = OllamaDocumentEmbedder(model=EMBEDDER, url=URL, progress_bar=False).run(documents)["documents"]
    assert [len(one.embedding) for one in found] == [32, 32]


main("ollama-haystack", version("ollama-haystack"))
