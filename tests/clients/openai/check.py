"""openai for Python, which compares every answer with its types (``_strict_response_validation``)."""

from __future__ import annotations

import base64
import json
import math
import struct
from pathlib import Path
from typing import Any

import openai
from checks import (
    CHAT,
    CLASSIFIER,
    EMBEDDER,
    RECITER,
    SMALL,
    SOUND,
    SPEECH,
    SPOKEN,
    TURNS,
    URL,
    Skip,
    check,
    main,
)
from openai.types import CompletionCreateParams, EmbeddingCreateParams
from openai.types.chat import CompletionCreateParams as ChatCreateParams
from openai.types.responses import ResponseCreateParams
from pydantic import BaseModel

client = openai.OpenAI(
    base_url=f"{URL}/v1", api_key="none", max_retries=0, timeout=60, _strict_response_validation=True
)
#: For what the types of the client itself do not allow, though OpenAI's API sends it: a stream of completions whose
#: finish reason is null until the end, and vectors in base64, which the client decodes after the validation.
lenient = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0, timeout=60)
MESSAGES: list[Any] = [{"role": "user", "content": "abc"}]


PLACE = {"location": "San Francisco"}


class Animal(BaseModel):
    """What the structured answers are."""

    name: str
    legs: int
    tame: bool


class get_weather(BaseModel):  # noqa: N801 - the name of the tool
    """The weather of a city."""

    location: str


def refusal(call: Any, **arguments: Any) -> openai.APIStatusError:
    """The error of a call."""
    try:
        call(**arguments)
    except openai.APIStatusError as error:
        return error
    raise AssertionError("the call was accepted")


@check
def lists_models() -> None:
    ids = [model.id for model in client.models.list()]
    assert {CHAT, f"{CHAT}:fp32", EMBEDDER} <= set(ids), ids
    for id in ids:
        assert client.models.retrieve(id).id == id


@check
def answers_a_chat() -> None:
    for model in (CHAT, TURNS):
        answer = client.chat.completions.create(model=model, messages=MESSAGES, max_completion_tokens=9)
        [choice] = answer.choices
        assert len(choice.message.content or "") == 9
        assert choice.finish_reason == "length"
        assert answer.usage is not None and answer.usage.completion_tokens == 9


@check
def streams_the_answer_with_its_usage() -> None:
    whole = client.chat.completions.create(model=CHAT, messages=MESSAGES, max_tokens=9).choices[0].message.content
    chunks = list(
        client.chat.completions.create(
            model=CHAT, messages=MESSAGES, max_tokens=9, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 9


@check
def streams_events_of_a_helper() -> None:
    whole = client.chat.completions.create(model=CHAT, messages=MESSAGES, max_tokens=9).choices[0].message.content or ""
    with client.chat.completions.stream(model=CHAT, messages=MESSAGES, stop=whole[3:6]) as stream:
        pieces = [event.delta for event in stream if event.type == "content.delta"]
        choice = stream.get_final_completion().choices[0]
    assert choice.message.content == "".join(pieces) == whole[:3]
    assert choice.finish_reason == "stop"


@check
def samples_several_answers() -> None:
    def several() -> list[str | None]:
        answer = client.chat.completions.create(
            model=CHAT, messages=MESSAGES, max_tokens=12, n=3, seed=7, temperature=1.5
        )
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        return [choice.message.content for choice in answer.choices]

    found = several()
    assert len(set(found)) == 3, found
    assert several() == found
    texts = ["", "", ""]
    for chunk in client.chat.completions.create(
        model=CHAT, messages=MESSAGES, max_tokens=12, n=3, seed=7, temperature=1.5, stream=True
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == found


@check
def gives_log_probabilities() -> None:
    for model in (CHAT, TURNS):
        arguments: dict[str, Any] = {
            "model": model,
            "messages": MESSAGES,
            "max_tokens": 9,
            "logprobs": True,
            "top_logprobs": 3,
        }
        choice = client.chat.completions.create(**arguments).choices[0]
        assert choice.logprobs is not None and choice.logprobs.content is not None
        tokens = choice.logprobs.content
        assert "".join(one.token for one in tokens) == choice.message.content
        for one in tokens:
            assert bytes(one.bytes or []).decode() == one.token
            assert len(one.top_logprobs) == 3
            assert one.top_logprobs[0].token == one.token  # greedy
            assert math.isclose(one.top_logprobs[0].logprob, one.logprob)
            assert one.logprob <= 0
        streamed = [
            one
            for chunk in client.chat.completions.create(**arguments, stream=True)
            for choice in chunk.choices
            if choice.logprobs is not None
            for one in choice.logprobs.content or []
        ]
        assert [one.token for one in streamed] == [one.token for one in tokens]


@check
def parses_structured_answers() -> None:
    if not SMALL:
        raise Skip("the small model is not stored")
    messages: list[Any] = [{"role": "user", "content": "Describe a dog."}]
    for extra in ({"temperature": 0}, {"seed": 3}):
        answer = client.chat.completions.parse(
            model=SMALL, messages=messages, response_format=Animal, max_tokens=200, **extra
        )
        if answer.choices[0].finish_reason == "stop":
            assert isinstance(answer.choices[0].message.parsed, Animal)
            return
    raise AssertionError("no answer ended")


@check
def gives_json_objects() -> None:
    if not SMALL:
        raise Skip("the small model is not stored")
    answer = client.chat.completions.create(
        model=SMALL, messages=MESSAGES, response_format={"type": "json_object"}, max_tokens=300, temperature=0
    )
    assert answer.choices[0].finish_reason == "length" or isinstance(
        json.loads(answer.choices[0].message.content or ""), dict
    )


@check
def continues_an_assistant_s_own_message() -> None:
    answer = client.chat.completions.create(model=CHAT, messages=MESSAGES, max_tokens=9)
    more = [*MESSAGES, answer.choices[0].message, {"role": "user", "content": "b"}]
    assert client.chat.completions.create(model=CHAT, messages=more, max_tokens=3).choices[0].message.content


@check
def completes_prompts() -> None:
    answer = client.completions.create(model=CHAT, prompt=["abc", "x"], max_tokens=5, n=1, logprobs=2)
    assert [len(choice.text) for choice in answer.choices] == [5, 5]
    logs = answer.choices[0].logprobs
    assert logs is not None and logs.tokens is not None and "".join(logs.tokens) == answer.choices[0].text
    assert logs.text_offset == [0, 1, 2, 3, 4]
    streamed = {0: "", 1: ""}
    for chunk in lenient.completions.create(model=CHAT, prompt=["abc", "x"], max_tokens=5, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert list(streamed.values()) == [choice.text for choice in answer.choices]


@check
def embeds_texts_in_both_formats() -> None:
    texts = ["the cat", "a"]
    coded = lenient.embeddings.create(model=EMBEDDER, input=texts)  # the client asks for base64
    plain = client.embeddings.create(model=EMBEDDER, input=texts, encoding_format="float")
    for one, other in zip(coded.data, plain.data, strict=True):
        assert one.embedding == other.embedding
        assert len(one.embedding) == 32
    raw = lenient.embeddings.with_raw_response.create(model=EMBEDDER, input=texts, encoding_format="base64")
    first = raw.http_response.json()["data"][0]["embedding"]
    assert list(struct.unpack("<32f", base64.b64decode(first))) == plain.data[0].embedding
    assert coded.usage.prompt_tokens == plain.usage.prompt_tokens > 0
    short = lenient.embeddings.create(model=EMBEDDER, input="a", dimensions=8).data[0].embedding
    assert len(short) == 8
    assert math.isclose(math.hypot(*short), 1.0, abs_tol=1e-5)


@check
def answers_and_streams_responses() -> None:
    whole = client.responses.create(model=CHAT, input="abc", max_output_tokens=9)
    assert len(whole.output_text) == 9
    assert (whole.status, whole.usage and whole.usage.output_tokens) == ("incomplete", 9)
    stop = {"stop": whole.output_text[3:6]}
    with client.responses.stream(model=CHAT, input="abc", extra_body=stop) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(pieces) == final.output_text == whole.output_text[:3]
    more: list[Any] = [{"role": "user", "content": "abc"}, *whole.output, {"role": "user", "content": "b"}]
    assert client.responses.create(model=CHAT, input=more, max_output_tokens=3).output_text
    counted = client.responses.input_tokens.count(model=CHAT, input="abc")
    assert whole.usage and counted.input_tokens == whole.usage.input_tokens
    assert (
        refusal(client.responses.create, model=CHAT, input="a", previous_response_id="b").param
        == "previous_response_id"
    )


@check
def parses_structured_responses() -> None:
    if not SMALL:
        raise Skip("the small model is not stored")
    for extra in ({"temperature": 0}, {"extra_body": {"seed": 3}}):
        answer = client.responses.parse(
            model=SMALL, input="Describe a dog.", text_format=Animal, max_output_tokens=200, **extra
        )
        if answer.status == "completed":
            assert isinstance(answer.output_parsed, Animal)
            return
    raise AssertionError("no answer ended")


@check
def calls_tools_and_reads_their_results() -> None:
    tools: Any = [openai.pydantic_function_tool(get_weather)]
    question: list[Any] = [{"role": "user", "content": "Rain?"}]
    answer = client.chat.completions.create(model=RECITER, messages=question, tools=tools)
    [call] = answer.choices[0].message.tool_calls or []
    assert call.type == "function" and json.loads(call.function.arguments) == PLACE
    with client.chat.completions.stream(model=RECITER, messages=question, tools=tools) as stream:
        events = [event.type for event in stream]
        [streamed] = stream.get_final_completion().choices[0].message.tool_calls or []
    assert events.count("tool_calls.function.arguments.delta") > 2
    assert streamed.type == "function" and streamed.function.parsed_arguments == get_weather(**PLACE)
    result = {"role": "tool", "tool_call_id": call.id, "content": "dry"}
    more = [*question, answer.choices[0].message, result]
    last = client.chat.completions.create(model=RECITER, messages=more, tools=tools)
    assert last.choices[0].message.content == "It is dry."


@check
def responses_call_tools_and_reason() -> None:
    tools: Any = [openai.pydantic_function_tool(get_weather)["function"] | {"type": "function"}]
    question: list[Any] = [{"role": "user", "content": "Rain?"}]
    with client.responses.stream(model=RECITER, input=question, tools=tools) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_response()
    assert {"response.reasoning_text.delta", "response.function_call_arguments.delta"} <= set(events)
    thought, call = final.output
    assert thought.type == "reasoning" and thought.content and thought.content[0].text == "I need the weather."
    assert call.type == "function_call" and json.loads(call.arguments) == PLACE
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "dry"}
    last = client.responses.create(model=RECITER, input=[*question, *final.output, result], tools=tools)
    assert last.output_text == "It is dry."


@check
def transcribes_a_sound_in_every_format() -> None:
    create = client.audio.transcriptions.create
    with open(SOUND, "rb") as sound:  # noqa: PTH123 - as the documentation of the client does
        assert create(model=SPEECH, file=sound).text == SPOKEN
    file = Path(SOUND)
    assert create(model=SPEECH, file=file, response_format="text").strip() == SPOKEN
    assert create(model=SPEECH, file=file, response_format="srt").startswith("1\n00:00:00,000 --> 00:00:0")
    assert create(model=SPEECH, file=file, response_format="vtt").startswith("WEBVTT\n\n00:00:00.000 --> ")
    found = create(model=SPEECH, file=file, response_format="verbose_json", timestamp_granularities=["segment", "word"])
    assert (found.text, found.language, round(found.duration)) == (SPOKEN, "english", 4)
    [segment] = found.segments or []
    assert segment.text.strip() == SPOKEN
    assert segment.start < segment.end
    words = found.words or []
    assert [word.word for word in words] == SPOKEN.split()
    assert all(word.start <= word.end for word in words)
    other = refusal(create, model=SPEECH, file=("a.wav", b"not a sound"))
    assert isinstance(other, openai.BadRequestError) and other.param == "file", other
    assert refusal(create, model=CHAT, file=file).param == "model"


@check
def knows_every_parameter_of_this_release() -> None:
    chat = {name for kind in ChatCreateParams.__args__ for name in kind.__annotations__}  # type: ignore[attr-defined]
    plain = {name for kind in CompletionCreateParams.__args__ for name in kind.__annotations__}  # type: ignore[attr-defined]
    responses = {name for kind in ResponseCreateParams.__args__ for name in kind.__annotations__}  # type: ignore[attr-defined]
    for call, names, given in (
        (client.chat.completions.create, chat, {"model": CHAT, "messages": MESSAGES, "max_tokens": 2}),
        (client.completions.create, plain, {"model": CHAT, "prompt": "a", "max_tokens": 2}),
        (client.responses.create, responses, {"model": CHAT, "input": "a", "max_output_tokens": 2}),
        (client.embeddings.create, set(EmbeddingCreateParams.__annotations__), {"model": EMBEDDER, "input": "a"}),
    ):
        call(**given, extra_body=dict.fromkeys(names - set(given)))  # type: ignore[operator]


@check
def errors_have_their_classes() -> None:
    chat = client.chat.completions.create
    missing = refusal(chat, model="no/such", messages=MESSAGES)
    assert isinstance(missing, openai.NotFoundError) and missing.code == "model_not_found"
    for stream in (False, True):
        long = refusal(chat, model=CHAT, messages=[{"role": "user", "content": "a" * 999}], stream=stream)
        assert isinstance(long, openai.BadRequestError), long
        assert (long.code, long.param) == ("context_length_exceeded", "messages")
    assert refusal(chat, model=CHAT, messages=MESSAGES, temperature=9).param == "temperature"
    assert refusal(chat, model=CLASSIFIER, messages=MESSAGES).param == "model"
    assert refusal(chat, model=CHAT, messages=MESSAGES, reasoning_effort="low").param == "reasoning_effort"
    tokens = refusal(client.embeddings.create, model=EMBEDDER, input=[[1, 2, 3]])
    assert tokens.param == "input[0]"
    assert long.request_id


@check
def a_stream_can_be_left() -> None:
    for _ in range(20):
        with client.chat.completions.create(model=CHAT, messages=MESSAGES, max_tokens=50, stream=True) as stream:
            next(iter(stream))
    assert client.chat.completions.create(model=CHAT, messages=MESSAGES, max_tokens=2).choices


main("openai", openai.__version__)
