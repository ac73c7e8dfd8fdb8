"""llama-index with OpenAI's API: chats, prompts, structured answers, vectors."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from checks import CHAT, EMBEDDER, SMALL, URL, Skip, check, main
from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

MESSAGES = [ChatMessage(role="system", content="a"), ChatMessage(role="user", content="b")]


def model(name: str = CHAT, **arguments: Any) -> OpenAILike:
    """A model whose chats are not put into one prompt, as llama-index does unless it is given ``is_chat_model``."""
    given = {"is_chat_model": True, "max_tokens": 9, "temperature": 0, "max_retries": 0, **arguments}
    return OpenAILike(model=name, api_base=f"{URL}/v1", api_key="none", **given)


@check
def answers_a_chat() -> None:
    found = model().chat(MESSAGES)
    assert len(found.message.content or "") == 9
    assert found.raw.usage.completion_tokens == 9


@check
def streams_the_answer() -> None:
    whole = model().chat(MESSAGES).message.content
    assert "".join(piece.delta or "" for piece in model().stream_chat(MESSAGES)) == whole


@check
def completes_a_prompt() -> None:
    text = model(is_chat_model=False).complete("abc").text
    assert len(text) == 9
    assert list(model(is_chat_model=False).stream_complete("abc"))[-1].text == text


@check
def answers_in_a_schema() -> None:
    if not SMALL:
        raise Skip("the small model is not stored")
    schema = {"type": "object", "properties": {"legs": {"type": "integer"}}, "required": ["legs"]}
    shape = {"type": "json_schema", "json_schema": {"name": "animal", "schema": schema}}
    found = model(SMALL, max_tokens=60).chat(MESSAGES, response_format=shape)
    assert (found.message.content or "").replace(" ", "").startswith('{"legs":'), found


@check
def embeds_texts() -> None:
    embedder = OpenAILikeEmbedding(model_name=EMBEDDER, api_base=f"{URL}/v1", api_key="none", max_retries=0)
    assert len(embedder.get_text_embedding("the cat")) == 32
    assert [len(one) for one in embedder.get_text_embedding_batch(["a", "b"])] == [32, 32]


main("llama-index-llms-openai-like", version("llama-index-llms-openai-like"))
