"""Answers of pipelines in the shapes that Hugging Face's clients read."""

from __future__ import annotations

import base64
from typing import Any

from starlette.responses import Response

from gpux.errors import UsageError
from gpux.server.http import json_response

#: Keys of a generated text, by which each task's clients read it.
_TEXT_KEYS = ("generated_text", "summary_text", "translation_text")
#: Reads one object where ``huggingface_hub`` reads the first of a list: image-to-text. No answer is both.
_ONE_TEXT = "@huggingface/inference/"


def response_of(task: str, answers: Any, *, several: bool, named: bool, agent: str = "") -> Response:
    """The response with what a pipeline answered.

    Args:
        task: of the pipeline.
        answers: in the shape of its call.
        several: whether the inputs were a list.
        named: whether the request named the task.
        agent: the client, as its header ``user-agent`` says.
    """
    if task == "image-to-image":
        return _picture(answers, several=several)
    if task == "text-classification" and not several:
        return json_response([answers])  # clients read the first of a list
    if task == "zero-shot-classification":
        return json_response([_labels(one) for one in answers] if several else _labels(answers))
    if task == "image-segmentation":
        return json_response(_without_nulls(answers))
    if task == "image-to-text" and not several and _ONE_TEXT in agent:
        return json_response(answers[0])
    if task == "text2text-generation" and not named:
        return json_response(_with_all_keys(answers))
    return json_response(answers)


def _without_nulls(answers: Any) -> Any:
    """Segments without a score have no key for it, since clients in JavaScript accept a number or nothing."""
    if isinstance(answers, list):
        return [_without_nulls(one) for one in answers]
    return {name: value for name, value in answers.items() if value is not None}


def _picture(answers: Any, *, several: bool) -> Response:
    if several:
        raise UsageError("one picture is answered at a time", hint="Send one input.", param="inputs")
    return Response(base64.b64decode(answers), media_type="image/png")


def _labels(answer: Any) -> list[dict[str, Any]]:
    pairs = zip(answer["labels"], answer["scores"], strict=True)
    return [{"label": label, "score": score} for label, score in pairs]


def _with_all_keys(answers: Any) -> Any:
    """The text under the key of each task that the model may be for, since its own task does not say which."""
    if isinstance(answers, list):
        return [_with_all_keys(one) for one in answers]
    return {**answers, **dict.fromkeys(_TEXT_KEYS, answers["generated_text"])}
