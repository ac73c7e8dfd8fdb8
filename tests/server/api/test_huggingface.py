"""Hugging Face's inference API: requests and answers in the shapes of its clients."""

from __future__ import annotations

import json
from typing import Any

import pytest
from huggingface_hub import ChatCompletionInputMessage, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from gpux.errors import error_types
from gpux.pipelines.registry import pipelines
from gpux.server.api.huggingface.chat import openai_body
from gpux.server.api.huggingface.generation import Wanted
from gpux.server.api.huggingface.requests import Inference
from gpux.server.api.huggingface.tasks import pipeline_task
from tests.server.running import CLASSIFIER, EMBEDDER, MASKS, RECITER, WRITER, Running


def client(server: Running, model: str) -> InferenceClient:
    address = f"{server.url}/models/{model}"
    return InferenceClient(model=address, provider="hf-inference", token="unused", timeout=60)


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(part.removeprefix("data: ")) for part in text.split("\n\n") if part]


def test_texts_are_classified_with_all_labels(server: Running) -> None:
    found = client(server, CLASSIFIER).text_classification("the cat")
    assert {one.label for one in found} == {"negative", "neutral", "positive"}
    assert len(client(server, CLASSIFIER).text_classification("the cat", top_k=1)) == 1


def test_masks_are_filled(server: Running) -> None:
    found = client(server, MASKS).fill_mask("the [MASK]", top_k=2)
    assert len(found) == 2
    assert all(one.token_str for one in found)


def test_vectors_are_those_of_tokens_unless_whole_texts_are_meant(server: Running) -> None:
    tokens = client(server, EMBEDDER).feature_extraction("the cat")
    assert tokens.shape == (1, 4, 32)
    texts = client(server, EMBEDDER).feature_extraction(["the cat", "a"], normalize=True)
    assert texts.shape == (2, 32)
    assert (texts**2).sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert client(server, EMBEDDER).feature_extraction("a", normalize=True, dimensions=8).shape == (1, 8)


def test_sentences_are_compared_with_and_without_the_task_in_the_path(server: Running) -> None:
    found = client(server, EMBEDDER).sentence_similarity("the cat", other_sentences=["the cat", "dogs"])
    assert found[0] == pytest.approx(1, abs=1e-5)
    named = client(server, f"{EMBEDDER}/pipeline/sentence-similarity")
    assert named.sentence_similarity("the cat", other_sentences=["the cat", "dogs"]) == found


def test_a_generation_has_its_tokens_with_details(server: Running) -> None:
    plain = client(server, WRITER).text_generation("abc", max_new_tokens=6)
    found = client(server, WRITER).text_generation("abc", max_new_tokens=6, details=True, return_full_text=True)
    assert found.generated_text == "abc" + plain
    assert found.details is not None
    assert "".join(token.text for token in found.details.tokens) == plain
    assert found.details.finish_reason == "length"


def test_the_tokens_of_a_stream_are_the_answer(server: Running) -> None:
    plain = client(server, WRITER).text_generation("abc", max_new_tokens=6)
    generator = client(server, WRITER)  # one that is freed closes its streams
    assert "".join(generator.text_generation("abc", max_new_tokens=6, stream=True)) == plain
    body = {"inputs": "abc", "parameters": {"max_new_tokens": 6, "top_n_tokens": 2}, "stream": True}
    found = events(server.post(f"/models/{WRITER}", body).text)
    assert [one["index"] for one in found] == list(range(1, 8))
    assert all(len(one["top_tokens"]) == 2 for one in found[:-1])
    assert found[-1]["token"]["special"]
    assert found[-1]["generated_text"] == plain
    assert found[-1]["details"]["generated_tokens"] == 6


def test_the_text_that_stops_a_generation_is_part_of_it(server: Running) -> None:
    plain = client(server, WRITER).text_generation("abc", max_new_tokens=6)
    found = client(server, WRITER).text_generation("abc", max_new_tokens=6, stop=[plain[:2]], details=True)
    assert found.generated_text == plain[:2]
    assert found.details is not None
    assert found.details.finish_reason == "stop_sequence"


@pytest.mark.parametrize(
    ("grammar", "format"),
    [
        ({"type": "regex", "value": "[0-9]{3}"}, {"type": "regex", "pattern": "[0-9]{3}"}),
        ({"type": "json", "value": {"a": 1}}, {"type": "json_schema", "json_schema": {"schema": {"a": 1}}}),
        ({"type": "json", "value": '{"a": 1}'}, {"type": "json_schema", "json_schema": {"schema": {"a": 1}}}),
        (
            {"type": "json_schema", "value": {"name": "n", "schema": {"a": 1}}},
            {"type": "json_schema", "json_schema": {"schema": {"a": 1}}},
        ),
    ],
)
def test_a_grammar_is_a_response_format(grammar: Any, format: Any) -> None:
    assert Wanted(Inference("a", {"grammar": grammar})).options["response_format"] == format


def test_chats_are_answered_below_the_address_of_a_model(server: Running) -> None:
    chat = client(server, WRITER)
    messages = [{"role": "user", "content": "hi"}]
    whole = chat.chat_completion(messages, max_tokens=4).choices[0].message.content
    parts = chat.chat_completion(messages, max_tokens=4, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == whole
    by_name = InferenceClient(base_url=server.url, token="unused")
    assert by_name.chat_completion(messages, model=WRITER, max_tokens=4).choices[0].message.content == whole


def test_a_json_schema_of_a_chat_is_read_as_the_client_writes_it(server: Running) -> None:
    shape: Any = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "string"}}}
    by_name = InferenceClient(base_url=f"{server.url}/v1", token="unused")
    for chat in (client(server, WRITER), by_name):
        with pytest.raises(HfHubHTTPError, match="structured output is not possible"):  # by the tokenizer of this model
            chat.chat_completion([{"role": "user", "content": "hi"}], model=WRITER, response_format=shape)


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def test_a_message_with_calls_is_sent_back_as_the_client_has_it(server: Running) -> None:
    """The client's objects have all their fields, most of them null."""
    chat, messages = client(server, RECITER), [{"role": "user", "content": "Will it rain?"}]
    choice: Any = {"function": {"name": "get_weather"}}
    forced = chat.chat_completion(messages, tools=[WEATHER], tool_choice=choice, max_tokens=80).choices[0].message
    called = chat.chat_completion(messages, tools=[WEATHER], max_tokens=80).choices[0].message
    assert forced.tool_calls is not None and called.tool_calls is not None
    [made] = called.tool_calls
    assert made.function.name == forced.tool_calls[0].function.name == "get_weather"
    result = {"role": "tool", "tool_call_id": made.id, "name": "get_weather", "content": "dry"}
    user: Any = ChatCompletionInputMessage(role="user", content="Will it rain?")
    for first in (messages[0], user):
        answer = chat.chat_completion([first, called, result], tools=[WEATHER], max_tokens=80)  # type: ignore[list-item]
        assert answer.choices[0].message.content == "It is dry."
    with pytest.raises(HfHubHTTPError, match="tool_prompt is not supported"):
        chat.chat_completion(messages, tools=[WEATHER], tool_prompt="Use it.")


def test_the_body_of_a_chat_is_read_as_text_generation_inference_names_it() -> None:
    schema = {"type": "object"}
    for shape, expected in (
        ({"type": "regex", "value": "[0-9]+"}, {"type": "regex", "pattern": "[0-9]+"}),
        ({"type": "json", "value": schema}, schema),
        ({"type": "json_object", "value": schema}, schema),
        ({"type": "json_schema", "value": {"name": "n", "schema": schema}}, schema),
    ):
        found = openai_body({"response_format": shape})["response_format"]
        assert found == expected or found["json_schema"]["schema"] == expected
    old = {"type": "function", "function": {"name": "f", "description": None, "arguments": {"default": None}}}
    [tool] = openai_body({"tools": [old], "tool_prompt": None, "stop": None})["tools"]
    assert tool["function"] == {"name": "f", "parameters": {"default": None}}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"city": None}, "description": None}}
    [message] = openai_body({"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]})["messages"]
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": {"city": None}}


def test_a_model_has_facts_and_a_state(server: Running) -> None:
    assert client(server, WRITER).get_endpoint_info()["pipeline_tag"] == "text-generation"
    assert client(server, WRITER).health_check()
    assert not client(server, "org/missing").health_check()
    assert server.get(f"/status/{WRITER}").json()["state"] in ("Loaded", "Loadable")


def test_a_body_without_a_type_is_json_where_it_begins_so(server: Running) -> None:
    with server.client() as plain:
        assert plain.post(f"/models/{CLASSIFIER}", content=b'{"inputs": "a"}').status_code == 200
        assert plain.post(f"/models/{CLASSIFIER}", content=b"\x89PNG").json()["error_type"] == "validation"


@pytest.mark.parametrize(
    ("model", "body", "words"),
    [
        (CLASSIFIER, {}, "no inputs"),
        (CLASSIFIER, {"inputs": "a", "parameters": []}, ""),
        (CLASSIFIER, {"inputs": "a", "parameters": [1]}, "not an object"),
        (CLASSIFIER, {"inputs": "a", "parameters": {"unknown": 1}}, "no option 'unknown'"),
        (CLASSIFIER, {"inputs": 3}, "must be a text"),
        (CLASSIFIER, {"inputs": "a", "stream": True}, "only text-generation streams"),
        (CLASSIFIER, {"inputs": 2**70}, ""),
        (WRITER, {"inputs": {"a": 1}}, "neither a text"),
        (WRITER, {"inputs": "a", "parameters": {"watermark": True}}, "watermark is not supported"),
        (WRITER, {"inputs": "a", "parameters": {"grammar": "x"}}, "neither a JSON schema"),
        (WRITER, {"inputs": "a", "parameters": {"temperature": "hot"}}, "temperature"),
        (EMBEDDER, {"inputs": "a", "normalize": True, "truncation_direction": "left"}, "on the right"),
        (f"{CLASSIFIER}/pipeline/text-to-image", {"inputs": "a"}, "no pipeline for the task"),
        (f"{CLASSIFIER}/pipeline/fill-mask", {"inputs": "a"}, "is stored for text-classification"),
        ("org/missing", {"inputs": "a"}, "not stored"),
    ],
)
def test_an_invalid_request_is_an_error_that_names_it(server: Running, model: str, body: Any, words: str) -> None:
    answer = server.post(f"/models/{model}", body)
    if not words:
        assert answer.status_code in (200, 400)
        return
    assert answer.status_code in (400, 404)
    assert words in answer.json()["error"]
    assert answer.json()["code"] in error_types()


def test_pages_of_other_origins_cannot_send_files(server: Running) -> None:
    with server.client(headers={"sec-fetch-site": "cross-site"}) as page:
        answer = page.post(f"/models/{CLASSIFIER}", content=b"\x89PNG")
    assert answer.status_code == 403


def test_every_task_with_a_pipeline_is_one_of_a_path() -> None:
    assert {pipeline_task(name) for name in pipelines()} == set(pipelines())
