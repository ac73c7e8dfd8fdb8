"""Texts and chats of langchain-huggingface; its class for vectors accepts no address."""

from __future__ import annotations

from importlib.metadata import version

from checks import CHAT, RECITER, URL, check, main
from langchain_huggingface import ChatHuggingFace, HuggingFaceEndpoint


@check
def generates_and_streams() -> None:
    model = HuggingFaceEndpoint(
        endpoint_url=f"{URL}/models/{CHAT}", max_new_tokens=8, seed=1, huggingfacehub_api_token="none"
    )
    whole = model.invoke("abc")
    assert whole
    assert "".join(model.stream("abc")) == whole


def chat(model: str) -> ChatHuggingFace:
    endpoint = HuggingFaceEndpoint(
        endpoint_url=f"{URL}/models/{model}", max_new_tokens=80, do_sample=False, huggingfacehub_api_token="none"
    )
    return ChatHuggingFace(llm=endpoint, model_id=model)


@check
def chats() -> None:
    assert chat(CHAT).invoke("abc").content


@check
def calls_tools() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "get_weather", "description": "", "parameters": schema}}
    [call] = chat(RECITER).bind_tools([tool]).invoke("Will it rain?").tool_calls
    assert call["name"] == "get_weather"


main("langchain-huggingface", version("langchain-huggingface"))
