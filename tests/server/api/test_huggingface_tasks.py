"""``InferenceClient`` on every task that gpux has a pipeline for; pictures and sounds in each form of a request."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import BadRequestError
from PIL import Image

from tests.server.api.test_openai_audio import SOUND, TEXT
from tests.server.running import CLASSIFIER, SPEECH, Running
from tests.server.senses import (
    BOXES,
    BRIGHTER,
    CAPTIONS,
    COMPARED,
    DEPTHS,
    FEATURES,
    PICTURES,
    QUESTIONS,
    SEGMENTS,
    SOUNDS,
    SPELLED,
    SUMMARIES,
    TOKENS,
    png,
    tone,
)

PICTURE = png()


def at(server: Running, model: str, task: str | None = None) -> InferenceClient:
    """A client of one model."""
    path = model if task is None else f"{model}/pipeline/{task}"
    return InferenceClient(model=f"{server.url}/models/{path}", provider="hf-inference", token="unused", timeout=60)


def test_texts_of_other_tasks(senses: Running) -> None:
    labels = ["cats", "dogs"]
    found = at(senses, CLASSIFIER).zero_shot_classification("the cat", labels, multi_label=True)
    assert {one.label for one in found} == set(labels)
    template = at(senses, CLASSIFIER).zero_shot_classification("the cat", labels, hypothesis_template="This is {}.")
    assert sum(one.score for one in template) == pytest.approx(1, abs=1e-5)
    entities = at(senses, TOKENS).token_classification("the cat sat", aggregation_strategy="none", ignore_labels=[])
    assert len(entities) >= 3
    assert entities[0].entity is not None
    groups = at(senses, TOKENS).token_classification("the cat sat", ignore_labels=["none"], stride=0)
    assert all(one.entity_group is not None for one in groups)
    options: dict[str, Any] = {"doc_stride": 8, "max_answer_len": 5, "max_question_len": 16, "max_seq_len": 48}
    flags = {"align_to_words": True, "handle_impossible_answer": False}
    answer: Any = at(senses, QUESTIONS).question_answering("who", context="the cat sat", **options, **flags)
    assert answer.answer in "the cat sat"
    several: Any = at(senses, QUESTIONS).question_answering("who", context="the cat sat on the mat", top_k=2)
    assert [one.score for one in several] == sorted((one.score for one in several), reverse=True)


@pytest.mark.parametrize("named", [True, False])
def test_texts_are_summarized_and_translated(senses: Running, named: bool) -> None:
    def client(task: str) -> InferenceClient:
        return at(senses, SUMMARIES, task if named else None)

    short = {"max_new_tokens": 3}
    assert client("summarization").summarization("a bbb c", generate_parameters=short).summary_text == "bbb"
    found = client("translation").translation("a bbb c", generate_parameters=short)
    assert found.translation_text == "bbb"
    body = {"inputs": ["aab", "abb"], "parameters": short}
    path = f"/models/{SUMMARIES}" + ("/pipeline/text2text-generation" if named else "")
    assert [one["generated_text"] for one in senses.post(path, body).json()] == ["aaa", "bbb"]


def test_pictures_have_labels_boxes_segments_and_texts(senses: Running) -> None:
    labels = at(senses, PICTURES).image_classification(PICTURE)
    assert labels[0].label == "red"
    one = at(senses, PICTURES).image_classification(PICTURE, top_k=1, function_to_apply="sigmoid")
    assert [label.label for label in one] == ["red"]
    compared = at(senses, COMPARED).zero_shot_image_classification(PICTURE, ["green", "red"])
    assert compared[0].label == "red"
    template = "a photo of {}"
    again = at(senses, COMPARED).zero_shot_image_classification(PICTURE, ["green", "red"], hypothesis_template=template)
    assert again[0].label == "red"
    boxes = at(senses, BOXES).object_detection(PICTURE, threshold=0.0)
    assert len(boxes) == 12
    assert boxes[0].box.xmax > boxes[0].box.xmin
    segments = at(senses, SEGMENTS).image_segmentation(PICTURE, subtask="semantic")
    assert {segment.mask.size for segment in segments} == {(8, 8)}  # type: ignore[attr-defined]
    assert all(segment.score is None for segment in segments)
    sent = {"content": PICTURE, "headers": {"content-type": "image/png", "user-agent": "@huggingface/inference/4 Node"}}
    assert senses.post(f"/models/{CAPTIONS}", **sent).json() == {"generated_text": "a photo of red"}
    assert "score" not in senses.post(f"/models/{SEGMENTS}", {"inputs": base64.b64encode(PICTURE).decode()}).json()[0]
    assert at(senses, CAPTIONS).image_to_text(PICTURE).generated_text == "a photo of red"
    brighter = at(senses, BRIGHTER).image_to_image(PICTURE)
    assert brighter.size == (4, 4)
    named = at(senses, FEATURES, "image-feature-extraction")
    assert len(json.loads(named._inner_post(_raw(named, PICTURE)))[0]) == 16
    depth = senses.post(f"/models/{DEPTHS}", {"inputs": base64.b64encode(PICTURE).decode()}).json()
    assert Image.open(io.BytesIO(base64.b64decode(depth["depth"]))).size == (8, 8)


def _raw(client: InferenceClient, data: bytes) -> Any:
    """A request of a task that the client has no method for."""
    from huggingface_hub.inference._common import RequestParameters

    return RequestParameters(client.model, "image-feature-extraction", None, None, data, {"content-type": "image/png"})


def test_sounds_have_labels_and_texts(senses: Running) -> None:
    labels = at(senses, SOUNDS).audio_classification(tone())
    assert {one.label for one in labels} == {"L0", "L1", "L2", "L3"}
    two = at(senses, SOUNDS).audio_classification(tone(), top_k=2, function_to_apply="sigmoid")
    assert [one.label for one in two] == [one.label for one in labels][:2]
    assert at(senses, SPELLED).automatic_speech_recognition(tone()).text
    assert at(senses, SPEECH).automatic_speech_recognition(SOUND).text.strip() == TEXT
    timed = at(senses, SPEECH).automatic_speech_recognition(SOUND, extra_body={"return_timestamps": True})
    assert timed.chunks is not None
    assert timed.chunks[0].timestamp == pytest.approx([0.38, 3.62])
    words = at(senses, SPEECH).automatic_speech_recognition(SOUND, extra_body={"return_timestamps": "word"})
    assert words.chunks is not None
    assert [chunk.text.strip() for chunk in words.chunks] == TEXT.split()
    assert words.chunks[-1].timestamp[1] > 3


def test_a_file_is_read_in_every_form(senses: Running) -> None:
    text = base64.b64encode(PICTURE).decode()
    path = f"/models/{PICTURES}"
    found = senses.post(path, {"inputs": text}).json()
    assert found[0]["label"] == "red"
    assert senses.post(path, {"inputs": f"data:image/png;base64,{text}"}).json() == found
    assert senses.post(path, {"inputs": {"image": text}}).json() == found  # @huggingface/inference
    assert senses.post(path, {"inputs": [text, text]}).json() == [found, found]
    for kind in ("image/png", "application/octet-stream", ""):
        headers = {"content-type": kind} if kind else {}
        assert senses.post(path, content=PICTURE, headers=headers).json() == found, kind
    form = {"inputs": ("../../etc/passwd", PICTURE, "image/png")}
    assert senses.post(path, files=form).json() == found
    one = senses.post(f"{path}/pipeline/image-classification", files=form, data={"parameters": '{"top_k": 1}'})
    assert one.json() == found[:1]


@pytest.mark.parametrize(
    ("files", "data", "words"),
    [
        ({"picture": PICTURE}, {}, "Send the file as inputs"),
        ({"inputs": PICTURE}, {"parameters": "top_k=1"}, "parameters is not an object of JSON"),
        ({"inputs": PICTURE}, {"parameters": "[]"}, "parameters is not an object of JSON"),
        ({"inputs": PICTURE}, {"top_k": "1"}, "Put it into parameters"),
        ({"inputs": PICTURE}, {"parameters": '{"unknown": 1}'}, "no option 'unknown'"),
        ({"inputs": (None, "text")}, {}, "inputs is a text"),
        ({"inputs": b""}, {}, "empty"),
    ],
)
def test_a_form_that_is_not_read_is_refused(senses: Running, files: Any, data: Any, words: str) -> None:
    answer = senses.post(f"/models/{PICTURES}", files=files, data=data)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    "task",
    [
        *("audio-to-audio", "document-question-answering", "image-to-video", "table-question-answering"),
        *("tabular-classification", "tabular-regression", "text-to-image", "text-to-speech", "text-to-video"),
        "visual-question-answering",
    ],
)
def test_tasks_without_a_pipeline_are_refused_with_those_that_have_one(senses: Running, task: str) -> None:
    answer = senses.post(f"/models/{CAPTIONS}/pipeline/{task}", {"inputs": "a"})
    assert (answer.status_code, answer.json()["error_type"]) == (400, "validation")
    assert "no pipeline for the task" in answer.json()["error"]
    assert "image-to-text" in answer.json()["error"]


def test_a_question_about_a_picture_is_refused_by_name(senses: Running) -> None:
    with pytest.raises(BadRequestError, match=r"no option '(question|image)'"):
        at(senses, CAPTIONS).visual_question_answering(PICTURE, "What is it?")
    with pytest.raises(BadRequestError):
        at(senses, CAPTIONS).document_question_answering(PICTURE, "What is it?")
