"""langchain-ollama: chats, prompts, structured output, vectors."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from checks import CHAT, EMBEDDER, RECITER, SMALL, URL, Skip, check, main
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel


class Animal(BaseModel):
    """What the structured answers are."""

    legs: int


def chat(model: str = CHAT, **arguments: Any) -> ChatOllama:
    """A chat model that LangChain finds in the list of models."""
    return ChatOllama(model=model, base_url=URL, validate_model_on_init=True, **arguments)


@check
def answers_a_chat() -> None:
    messages = [SystemMessage("a"), HumanMessage("b"), AIMessage("c"), HumanMessage("d")]
    found = chat(num_predict=9, temperature=0).invoke(messages)
    assert len(found.content) == 9
    assert found.response_metadata["done_reason"] == "length"
    assert found.usage_metadata is not None and found.usage_metadata["output_tokens"] == 9


@check
def streams_the_answer() -> None:
    model = chat(num_predict=9, temperature=0)
    pieces = list(model.stream("abc"))
    assert "".join(str(piece.content) for piece in pieces) == model.invoke("abc").content
    assert sum((piece.usage_metadata or {}).get("output_tokens", 0) for piece in pieces) == 9


@check
def samples_with_the_options_of_ollama() -> None:
    options = {"temperature": 1.5, "seed": 7, "top_k": 40, "top_p": 0.9, "repeat_penalty": 1.1, "num_ctx": 2048}
    one, other = (chat(num_predict=9, num_thread=2, **options).invoke("abc").content for _ in range(2))
    assert one == other


@check
def continues_a_prompt() -> None:
    model = OllamaLLM(model=CHAT, base_url=URL, num_predict=9, temperature=0, keep_alive="5m")
    assert len(model.invoke("abc")) == 9
    assert "".join(model.stream("abc")) == model.invoke("abc")


@check
def gives_structured_output() -> None:
    if not SMALL:
        raise Skip("the small model is not stored")
    for seed in range(4):
        model = ChatOllama(model=SMALL, base_url=URL, seed=seed, num_predict=200).with_structured_output(Animal)
        try:
            found = model.invoke("Describe a dog.")
        except Exception:  # an answer that the limit of tokens ended
            continue
        assert isinstance(found, Animal)
        return
    raise AssertionError("no answer ended")


@tool
def get_weather(location: str) -> str:
    """The weather of a city."""
    return "dry" if location == "San Francisco" else "wet"


@check
def thinks_calls_a_tool_and_reads_its_result() -> None:
    model = chat(RECITER, reasoning=True).bind_tools([get_weather])
    question = HumanMessage("Rain?")
    answer = model.invoke([question])
    assert answer.additional_kwargs["reasoning_content"] == "I need the weather."
    [call] = answer.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"location": "San Francisco"})
    pieces = list(model.stream([question]))
    assert [one["args"] for piece in pieces for one in piece.tool_calls] == [call["args"]]
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage) and result.content == "dry"
    assert model.invoke([question, answer, result]).content == "It is dry."
    assert "reasoning_content" not in chat(RECITER, reasoning=False).invoke("abc").additional_kwargs


@check
def embeds_texts() -> None:
    model = OllamaEmbeddings(model=EMBEDDER, base_url=URL, validate_model_on_init=True)
    assert [len(vector) for vector in model.embed_documents(["the cat", "a"])] == [32, 32]
    assert len(model.embed_query("a")) == 32


@check
def a_missing_model_is_noticed_at_the_start() -> None:
    try:
        ChatOllama(model="no/such", base_url=URL, validate_model_on_init=True)
    except ValueError as error:
        assert "not found" in str(error)
    else:
        raise AssertionError


main("langchain-ollama", version("langchain-ollama"))
