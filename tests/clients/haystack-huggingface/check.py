"""huggingface-api-haystack: chats, vectors and rankings as text-generation- and text-embeddings-inference have them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from checks import CHAT, EMBEDDER, URL, check, main
from haystack.dataclasses import ChatMessage, Document
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceAPIDocumentEmbedder,
    HuggingFaceAPITextEmbedder,
)
from haystack_integrations.components.embedders.huggingface_api.sparse_text_embedder import (
    HuggingFaceTEISparseTextEmbedder,
)
from haystack_integrations.components.generators.huggingface_api import HuggingFaceAPIChatGenerator
from haystack_integrations.components.rankers.huggingface_api import HuggingFaceTEIRanker

VECTORS: dict[str, Any] = {"api_type": "text_embeddings_inference", "token": None}


@check
def answers_and_streams_a_chat() -> None:
    generator = HuggingFaceAPIChatGenerator(
        api_type="text_generation_inference",
        api_params={"url": f"{URL}/models/{CHAT}"},
        generation_kwargs={"max_tokens": 9},
        token=None,
    )
    [reply] = generator.run([ChatMessage.from_user("abc")])["replies"]
    assert len(reply.text) == 9
    pieces: list[str] = []
    streamed = generator.run([ChatMessage.from_user("abc")], streaming_callback=lambda one: pieces.append(one.content))
    assert "".join(pieces) == streamed["replies"][0].text == reply.text


@check
def embeds_texts_by_the_address_of_a_model_and_of_the_server() -> None:
    vectors = []
    for url in (f"{URL}/models/{EMBEDDER}", URL):
        vector = HuggingFaceAPITextEmbedder(api_params={"url": url}, truncate=True, normalize=True, **VECTORS).run("a")
        [document] = HuggingFaceAPIDocumentEmbedder(api_params={"url": url}, normalize=True, **VECTORS).run(
            [Document(content="a")]
        )["documents"]
        vectors += [vector["embedding"], document.embedding]
    assert [len(one) for one in vectors] == [32] * 4
    assert max(abs(one - other) for pair in zip(*vectors, strict=True) for one in pair for other in pair) < 1e-6


@check
def embeds_sparsely() -> None:
    found = HuggingFaceTEISparseTextEmbedder(api_base_url=URL, token=None).run("the cat")["sparse_embedding"]
    assert len(found.indices) == len(found.values) > 0


@check
def ranks() -> None:
    ranker = HuggingFaceTEIRanker(url=URL, top_k=1, token=None)
    found = ranker.run(query="the cat", documents=[Document(content="the cat"), Document(content="a")])["documents"]
    assert len(found) == 1
    assert 0 < found[0].score < 1


main("huggingface-api-haystack", version("huggingface-api-haystack"))
