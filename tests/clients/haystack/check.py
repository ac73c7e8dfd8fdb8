"""haystack-ai: generators and embedders of OpenAI's API."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from checks import CHAT, EMBEDDER, URL, check, main
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage, Document
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


@check
def embeds_texts_and_documents() -> None:
    vector = OpenAITextEmbedder(model=EMBEDDER, **GIVEN).run("a")["embedding"]
    [document] = OpenAIDocumentEmbedder(model=EMBEDDER, **GIVEN).run([Document(content="a")])["documents"]
    assert document.embedding == vector
    assert len(vector) == 32


main("haystack-ai", version("haystack-ai"))
