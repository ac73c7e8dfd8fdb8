"""``InferenceClient`` of huggingface_hub, with the address of a model in place of its name."""

from __future__ import annotations

import io
import json
import math
import struct
import tempfile
import wave
from pathlib import Path

import huggingface_hub
from checks import CHAT, CLASSIFIER, EMBEDDER, MASKS, SMALL, SOUND, SPEECH, SPOKEN, TASKS, URL, Skip, check, main
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, ValidationError
from PIL import Image


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


def of(task: str) -> InferenceClient:
    return client(TASKS[task])


def red() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 10, 10)).save(stream, "PNG")
    return stream.getvalue()


def tone() -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        waves = (round(8000 * math.sin(0.17 * place)) for place in range(16_000))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in waves))
    return stream.getvalue()


@check
def classifies_texts_by_labels_of_the_request() -> None:
    found = client(CLASSIFIER).zero_shot_classification("the cat", ["cats", "dogs"], multi_label=True)
    assert {one.label for one in found} == {"cats", "dogs"}
    found = client(CLASSIFIER).zero_shot_classification("the cat", ["cats", "dogs"], hypothesis_template="It is {}.")
    assert abs(sum(one.score for one in found) - 1) < 1e-5


@check
def classifies_tokens() -> None:
    groups = of("token-classification").token_classification("the cat sat", stride=0, ignore_labels=["none"])
    assert all(one.entity_group for one in groups)
    entities = of("token-classification").token_classification("the cat", aggregation_strategy="none", ignore_labels=[])
    assert all(one.entity for one in entities)


@check
def answers_questions() -> None:
    options = {"max_answer_len": 5, "max_question_len": 16, "max_seq_len": 48, "doc_stride": 8, "align_to_words": True}
    found = of("question-answering").question_answering("who", context="the cat sat", **options)
    assert found.answer in "the cat sat"
    assert len(of("question-answering").question_answering("who", context="the cat sat", top_k=2)) == 2


@check
def summarizes_and_translates() -> None:
    short = {"max_new_tokens": 3}
    assert of("summarization").summarization("a bbb c", generate_parameters=short).summary_text == "bbb"
    assert of("translation").translation("a bbb c", generate_parameters=short).translation_text == "bbb"


@check
def classifies_pictures_as_bytes_and_files() -> None:
    found = of("image-classification").image_classification(red())
    assert found[0].label == "red"
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        file.write(red())
        file.flush()
        assert of("image-classification").image_classification(file.name) == found
        assert of("image-classification").image_classification(Path(file.name)) == found
    top = of("image-classification").image_classification(red(), top_k=1, function_to_apply="softmax")
    assert [one.label for one in top] == ["red"]
    compared = of("zero-shot-image-classification").zero_shot_image_classification(red(), ["green", "red"])
    assert compared[0].label == "red"


@check
def finds_objects_and_segments() -> None:
    assert len(of("object-detection").object_detection(red(), threshold=0.0)) == 12
    segments = of("image-segmentation").image_segmentation(red(), subtask="semantic")
    assert segments[0].mask.size == (8, 8)


@check
def turns_pictures_into_texts_and_pictures() -> None:
    assert of("image-to-text").image_to_text(red()).generated_text == "a photo of red"
    assert of("image-to-image").image_to_image(red()).size == (4, 4)


@check
def classifies_and_transcribes_sounds() -> None:
    found = of("audio-classification").audio_classification(tone())
    assert len(found) == 4
    assert of("audio-classification").audio_classification(tone(), top_k=1) == found[:1]
    assert of("automatic-speech-recognition").automatic_speech_recognition(tone()).text
    assert client(SPEECH).automatic_speech_recognition(SOUND).text.strip() == SPOKEN
    timed = client(SPEECH).automatic_speech_recognition(SOUND, extra_body={"return_timestamps": "word"})
    assert [chunk.text.strip() for chunk in timed.chunks] == SPOKEN.split()


@check
def raises_what_is_wrong_with_a_file() -> None:
    try:
        of("image-classification").image_classification(b"no picture")
    except BadRequestError as error:
        assert "not a picture" in str(error)
    else:
        raise AssertionError("nothing was raised")


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

    async def see() -> str:
        asynchronous = AsyncInferenceClient(model=f"{URL}/models/{TASKS['image-classification']}", token="none")
        return (await asynchronous.image_classification(red()))[0].label

    assert asyncio.run(see()) == "red"


main("huggingface_hub", huggingface_hub.__version__)
