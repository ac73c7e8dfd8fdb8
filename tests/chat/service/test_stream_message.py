"""Messages to ``/api/stream-message``, answered by stored models."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.chat.service.talking import PATH, talk
from tests.pipelines.writer import expected
from tests.server.running import CLASSIFIER, WRITER, Running

MODEL = f"hf:{WRITER}"
GREEDY = {"temperature": 0, "maxTokens": 6}
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.mark.parametrize("path", [PATH, "/stream-message"])
def test_an_answer_is_a_session_tokens_and_an_end(chat: Running, path: str) -> None:
    found = talk(chat, {"model": MODEL, "message": "hi", "options": GREEDY}, path)
    assert found.status == 200
    assert found.text == expected("<user>hi<assistant>", 6)
    assert [one.name for one in found.events[:2]] == ["session", ""]
    assert found.session["sessionId"].startswith("session_")
    assert found.session["model"] == MODEL
    assert found.end["finishReason"] in ("stop", "length")
    assert found.end["modelProvider"] == "huggingface"
    assert found.headers["x-gpux-model"] == MODEL


def test_a_conversation_is_continued_with_its_model(chat: Running) -> None:
    first = talk(chat, {"model": MODEL, "message": "hi", "options": GREEDY})
    id = first.session["conversationId"]
    second = talk(chat, {"message": "more", "conversationId": id, "options": GREEDY})
    assert second.session["model"] == MODEL
    assert second.text == expected(f"<user>hi<assistant>{first.text}<user>more<assistant>", 6)
    assert second.end["messageId"] > second.session["messageId"] > first.end["messageId"]


def test_the_history_of_a_request_replaces_the_stored_one(chat: Running) -> None:
    id = talk(chat, {"model": MODEL, "message": "hi", "options": GREEDY}).session["conversationId"]
    history = [{"role": "system", "content": "be short"}, {"role": "user", "content": "a"}]
    history.append({"role": "assistant", "content": "b"})
    body = {"message": "c", "conversationId": id, "conversationHistory": history, "options": GREEDY}
    assert talk(chat, body).text == expected("<system>be short<user>a<assistant>b<user>c<assistant>", 6)


def test_a_history_without_a_conversation_is_not_stored(chat: Running) -> None:
    found = talk(chat, {"model": MODEL, "message": "hi", "conversationHistory": [], "options": GREEDY})
    assert found.text == expected("<user>hi<assistant>", 6)
    assert "conversationId" not in found.session


def test_a_form_has_the_same_fields(chat: Running) -> None:
    fields = {"model": MODEL, "message": "hi", "options": '{"temperature": 0, "max_tokens": 6}'}
    parts = [(name, (None, value)) for name, value in fields.items()]
    found = talk(chat, {}, files=parts)
    assert found.text == expected("<user>hi<assistant>", 6)


BAD: list[tuple[dict[str, Any], int, str, str]] = [
    ({"model": "nobody:x", "message": "hi"}, 404, "provider_not_found", "HF_MODEL_NOT_FOUND"),
    ({"model": "ollama:x", "message": "hi"}, 404, "provider_not_found", "HF_MODEL_NOT_FOUND"),
    ({"model": "hf:no/such", "message": "hi"}, 404, "model_not_found", "HF_MODEL_NOT_FOUND"),
    ({"model": f"hf:{CLASSIFIER}", "message": "hi"}, 400, "unsupported_task", "HF_MODEL_LOAD_FAILED"),
    ({"message": "hi"}, 400, "usage", "HF_CONFIGURATION_ERROR"),
    ({"model": MODEL, "message": "  "}, 400, "usage", "HF_CONFIGURATION_ERROR"),
    ({"model": MODEL}, 400, "usage", "HF_CONFIGURATION_ERROR"),
    ({"model": MODEL, "message": "hi", "mesage": ""}, 400, "usage", "HF_CONFIGURATION_ERROR"),
    ({"model": MODEL, "message": "hi", "options": {"temprature": 1}}, 400, "usage", "HF_CONFIGURATION_ERROR"),
    ({"model": MODEL, "message": "hi", "options": {"maxTokens": 0}}, 400, "usage", "HF_CONFIGURATION_ERROR"),
    ({"model": MODEL, "message": "hi", "options": {"temperature": -1}}, 400, "usage", "HF_CONFIGURATION_ERROR"),
    (
        {"model": MODEL, "message": "hi", "conversationHistory": [{"role": "robot", "content": ""}]},
        *(400, "usage", "HF_CONFIGURATION_ERROR"),
    ),
    ({"message": "hi", "conversationId": "none"}, 404, "conversation_not_found", "HF_UNKNOWN_ERROR"),
    ({"model": MODEL, "message": "a" * (5 << 20)}, 413, "too_large", "HF_CONFIGURATION_ERROR"),
    ({"model": MODEL, "message": "hi\0", "options": GREEDY}, 400, "input", "HF_MODEL_INFERENCE_FAILED"),
    ({"model": MODEL, "message": "hi", "images": ["aGVsbG8="]}, 400, "input", "HF_MODEL_INFERENCE_FAILED"),
    (
        {"model": MODEL, "message": "hi", "images": [base64.b64encode(PIXEL).decode()]},
        *(400, "input", "HF_MODEL_INFERENCE_FAILED"),
    ),
]


@pytest.mark.parametrize(("body", "status", "code", "error_code"), BAD, ids=lambda value: str(value)[:60])
def test_bad_input_is_an_error_event_with_both_codes(
    chat: Running, body: dict[str, Any], status: int, code: str, error_code: str
) -> None:
    found = talk(chat, body)
    assert (found.status, found.error["code"], found.error["errorCode"]) == (status, code, error_code)
    assert found.error["error"]
