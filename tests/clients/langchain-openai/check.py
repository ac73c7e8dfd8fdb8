"""langchain-openai: chats, streams, structured output, vectors."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import openai
from checks import CHAT, EMBEDDER, RECITER, SMALL, URL, Skip, check, main
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Animal(BaseModel):
    """What the structured answers are."""

    name: str
    legs: int
    tame: bool


def chat(model: str = CHAT, **arguments: Any) -> ChatOpenAI:
    """A chat model of LangChain."""
    return ChatOpenAI(model=model, base_url=f"{URL}/v1", api_key="none", max_retries=0, timeout=60, **arguments)


def embedder(**arguments: Any) -> OpenAIEmbeddings:
    """The embeddings of LangChain."""
    return OpenAIEmbeddings(model=EMBEDDER, base_url=f"{URL}/v1", api_key="none", max_retries=0, **arguments)


@check
def answers_a_chat() -> None:
    messages = [SystemMessage("a"), HumanMessage("b"), AIMessage("c"), HumanMessage("d")]
    found = chat(max_tokens=9, temperature=0).invoke(messages)
    assert len(found.content) == 9
    assert found.response_metadata["finish_reason"] == "length"
    assert found.usage_metadata is not None and found.usage_metadata["output_tokens"] == 9


@check
def streams_the_answer() -> None:
    model = chat(max_tokens=9, temperature=0, stream_usage=True)
    whole = model.invoke("abc").content
    pieces = list(model.stream("abc"))
    assert "".join(str(piece.content) for piece in pieces) == whole
    total = sum((piece.usage_metadata or {}).get("output_tokens", 0) for piece in pieces)
    assert total == 9, pieces


@check
def gives_structured_output() -> None:
    if not SMALL:
        raise Skip("the small model is not stored")
    for more in ({"temperature": 0}, {"seed": 3}):
        model = chat(SMALL, max_tokens=200, **more).with_structured_output(Animal, method="json_schema", strict=True)
        try:
            found = model.invoke("Describe a dog.")
        except openai.LengthFinishReasonError:
            continue
        assert isinstance(found, Animal)
        return
    raise AssertionError("no answer ended")


@tool
def get_weather(location: str) -> str:
    """The weather of a city."""
    return "dry" if location == "San Francisco" else "wet"


@check
def calls_a_tool_and_reads_its_result() -> None:
    for more in ({}, {"use_responses_api": True}):
        model = chat(RECITER, **more).bind_tools([get_weather])
        question = HumanMessage("Rain?")
        answer = model.invoke([question])
        [call] = answer.tool_calls
        assert (call["name"], call["args"]) == ("get_weather", {"location": "San Francisco"})
        total = None
        for piece in model.stream([question]):
            total = piece if total is None else total + piece
        assert total is not None and [one["args"] for one in total.tool_calls] == [call["args"]]
        result = get_weather.invoke(call)
        assert isinstance(result, ToolMessage) and result.content == "dry"
        assert model.invoke([question, answer, result]).text == "It is dry."


@check
def a_chosen_tool_is_called() -> None:
    model = chat(RECITER).bind_tools([get_weather], tool_choice="get_weather", strict=True)
    assert [call["name"] for call in model.invoke("Rain?").tool_calls] == ["get_weather"]


@check
def embeds_texts() -> None:
    found = embedder(check_embedding_ctx_length=False).embed_documents(["the cat", "a"])
    assert [len(vector) for vector in found] == [32, 32]
    assert len(embedder(check_embedding_ctx_length=False, dimensions=8).embed_query("a")) == 8


@check
def token_ids_are_refused_with_the_option_that_helps() -> None:
    # LangChain loads its tokenizer from the network, so that the check sends what it would send.
    client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
    try:
        client.embeddings.create(model=EMBEDDER, input=[[9707, 1879]])
    except openai.BadRequestError as error:
        assert "check_embedding_ctx_length=False" in error.message
    else:
        raise AssertionError("token ids were accepted")


main("langchain-openai", version("langchain-openai"))
