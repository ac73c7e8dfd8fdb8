"""``InferenceClient`` of huggingface_hub, with the address of a model in place of its name."""

from __future__ import annotations

import json

import huggingface_hub
from checks import CHAT, CLASSIFIER, EMBEDDER, MASKS, SMALL, URL, Skip, check, main
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError, ValidationError


def client(model: str) -> InferenceClient:
    return InferenceClient(model=f"{URL}/models/{model}", provider="hf-inference", token="none", timeout=120)


@check
def classifies_texts() -> None:
    found = client(CLASSIFIER).text_classification("the cat")
    assert len(found) == 3
    assert abs(sum(one.score for one in found) - 1) < 1e-5


@check
def fills_masks() -> None:
    assert len(client(MASKS).fill_mask("the [MASK]", top_k=3)) == 3


@check
def extracts_features() -> None:
    assert client(EMBEDDER).feature_extraction("the cat").shape == (1, 4, 32)
    assert client(EMBEDDER).feature_extraction(["the cat", "a"], normalize=True).shape == (2, 32)


@check
def compares_sentences() -> None:
    found = client(EMBEDDER).sentence_similarity("the cat", other_sentences=["the cat", "a dog"])
    assert abs(found[0] - 1) < 1e-5
    assert found[1] < found[0]


@check
def generates_and_streams_the_same_text() -> None:
    generator = client(CHAT)  # a client that is freed closes its streams
    whole = generator.text_generation("abc", max_new_tokens=8)
    assert "".join(generator.text_generation("abc", max_new_tokens=8, stream=True)) == whole
    details = client(CHAT).text_generation("abc", max_new_tokens=8, details=True)
    assert details.details.generated_tokens == 8
    *_, last = generator.text_generation("abc", max_new_tokens=8, stream=True, details=True)
    assert last.generated_text == whole


@check
def chats_by_address_and_by_name() -> None:
    messages = [{"role": "user", "content": "hi"}]
    chat = client(CHAT)  # a client that is freed closes its streams
    whole = chat.chat_completion(messages, max_tokens=5).choices[0].message.content
    parts = chat.chat_completion(messages, max_tokens=5, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == whole
    named = InferenceClient(base_url=f"{URL}/v1", api_key="none").chat.completions
    assert named.create(model=CHAT, messages=messages, max_tokens=5).choices[0].message.content == whole


@check
def answers_in_the_form_of_a_schema() -> None:
    if not SMALL:
        raise Skip("the trained model is not stored")
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}}, "required": ["name"]}
    shape = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    messages = [{"role": "user", "content": "Who are you?"}]
    chat = InferenceClient(base_url=f"{URL}/v1", provider="hf-inference", api_key="none")
    found = chat.chat_completion(messages, model=SMALL, response_format=shape, max_tokens=60)
    assert "name" in json.loads(found.choices[0].message.content)


@check
def reads_facts_and_health() -> None:
    assert client(CHAT).get_endpoint_info()["model_id"] == CHAT
    assert client(CHAT).health_check()


@check
def raises_its_own_errors() -> None:
    try:
        client(CHAT).text_generation("abc", max_new_tokens=-1)
    except ValidationError as error:
        assert "max_new_tokens" in str(error)
    else:
        raise AssertionError("nothing was raised")
    try:
        client("org/missing").text_classification("a")
    except HfHubHTTPError as error:
        assert error.response.status_code == 404
    else:
        raise AssertionError("nothing was raised")


@check
def works_asynchronously() -> None:
    import asyncio

    async def classify() -> int:
        asynchronous = AsyncInferenceClient(model=f"{URL}/models/{CLASSIFIER}", token="none")
        return len(await asynchronous.text_classification("the cat"))

    assert asyncio.run(classify()) == 3


main("huggingface_hub", huggingface_hub.__version__)
