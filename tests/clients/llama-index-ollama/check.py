"""llama-index with Ollama's API: chats, prompts, vectors."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from checks import CHAT, EMBEDDER, RECITER, URL, check, main
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.llms.ollama import Ollama

MESSAGES = [ChatMessage(role="system", content="a"), ChatMessage(role="user", content="b")]


def model(**arguments: Any) -> Ollama:
    """A model whose context llama-index reads from the server."""
    options = {"num_predict": 9}
    return Ollama(model=CHAT, base_url=URL, request_timeout=60, temperature=0, additional_kwargs=options, **arguments)


@check
def reads_the_context_of_the_model() -> None:
    assert model().get_context_window() == 64


@check
def answers_a_chat() -> None:
    found = model().chat(MESSAGES)
    assert len(found.message.content or "") == 9
    assert found.raw["usage"]["completion_tokens"] == 9


@check
def streams_the_answer() -> None:
    whole = model().chat(MESSAGES).message.content
    assert "".join(piece.delta or "" for piece in model().stream_chat(MESSAGES)) == whole


@check
def completes_a_prompt() -> None:
    assert len(model().complete("abc").text) == 9
    assert list(model().stream_complete("abc"))[-1].text == model().complete("abc").text


def get_weather(location: str) -> str:
    """The weather of a city."""
    return "dry" if location == "San Francisco" else "wet"


@check
def calls_a_tool_and_reads_its_result() -> None:
    tools = [FunctionTool.from_defaults(fn=get_weather)]
    llm = Ollama(model=RECITER, base_url=URL, request_timeout=60)
    answer = llm.chat_with_tools(tools, user_msg="Rain?")
    [call] = llm.get_tool_calls_from_response(answer)
    assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"location": "San Francisco"})
    more = {"tool_call_id": call.tool_id}
    result = ChatMessage(role="tool", content=get_weather(**call.tool_kwargs), additional_kwargs=more)
    history = [ChatMessage(role="user", content="Rain?"), answer.message]
    assert llm.chat_with_tools(tools, user_msg=result, chat_history=history).message.content == "It is dry."


@check
def embeds_texts() -> None:
    embedder = OllamaEmbedding(model_name=EMBEDDER, base_url=URL)
    assert len(embedder.get_text_embedding("the cat")) == 32
    assert [len(one) for one in embedder.get_text_embedding_batch(["a", "b"])] == [32, 32]


main("llama-index-llms-ollama", version("llama-index-llms-ollama"))
