"""Questions of every task: to a model behind a server, and to the pipeline in this process; their answers are equal."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from gpux.model.variant import StoredModel
from gpux.pull.open import pipeline
from tests.processors.audio.sounds import tones
from tests.server.running import Running

#: Difference of two numbers of an answer at most: the server's batches may have another order of additions.
TOLERANCE = 2e-5
TEXT = "the cat sat on a mat in june"


def picture(seed: int = 0, size: tuple[int, int] = (67, 101)) -> bytes:
    """A PNG file of noise, of this height and width."""
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return _saved([Image.fromarray(values)], "PNG")


def video(frames: int = 20) -> bytes:
    """An animated GIF of noise."""
    values = np.random.default_rng(0).integers(0, 256, (frames, 24, 32, 3), dtype=np.uint8)
    return _saved([Image.fromarray(frame) for frame in values], "GIF")


def sound(seconds: float = 0.8, rate: int = 16_000) -> bytes:
    """A WAV file."""
    stream = io.BytesIO()
    soundfile.write(stream, tones(seconds, rate), rate, format="WAV")
    return stream.getvalue()


def _saved(pictures: list[Image.Image], format: str) -> bytes:
    stream = io.BytesIO()
    more: dict[str, Any] = {"save_all": True, "append_images": pictures[1:]} if pictures[1:] else {}
    pictures[0].save(stream, format, **more)
    return stream.getvalue()


@dataclass(frozen=True)
class Question:
    """One request to the pipeline of a task."""

    task: str  #: as in a path: the name of a pipeline
    inputs: Any  #: bytes are the content of a file
    options: Mapping[str, Any] = field(default_factory=dict)


_LABELS = {"candidate_labels": ["red", "a photo of green"]}
_RANKED = {"query": "a cat", "documents": ["the dog", "a cat in june", "mat"]}
_ALL = {"threshold": 0.0}
#: Task -> a question that any model of it answers.
QUESTIONS = {
    one.task: one
    for one in (
        Question("audio-classification", sound(), {"top_k": 2}),
        Question("audio-feature-extraction", sound()),
        Question("audio-frame-classification", sound()),
        Question("audio-xvector", sound()),
        Question("automatic-speech-recognition", sound()),
        Question("depth-estimation", picture()),
        Question("feature-extraction", [TEXT, "a"]),
        Question("fill-mask", "the [MASK] sat", {"top_k": 3}),
        Question("image-classification", picture()),
        Question("image-feature-extraction", [picture(), picture(1)]),
        Question("image-segmentation", picture()),
        Question("image-to-image", picture()),
        Question("image-to-text", picture(), {"max_new_tokens": 6}),
        Question("keypoint-detection", picture(), {"boxes": [[10, 5, 40, 50]]}),
        Question("late-interaction", [TEXT, "a"], {"is_query": True}),
        Question("mask-generation", picture(), {"input_points": [[[30, 20]], [[5, 40]]]}),
        Question("object-detection", picture(), _ALL),
        Question("question-answering", {"question": "who sat?", "context": TEXT}),
        Question("sentence-similarity", {"source_sentence": TEXT, "sentences": ["a", "the cat"]}),
        Question("sparse-embedding", TEXT),
        Question("summarization", [TEXT, "a"], {"max_new_tokens": 6}),
        Question("text-classification", TEXT, {"top_k": None}),
        Question("text-generation", "abc", {"max_new_tokens": 6, "return_full_text": True}),
        Question("text-ranking", _RANKED),
        Question("text2text-generation", TEXT, {"max_new_tokens": 6}),
        Question("token-classification", TEXT, {"aggregation_strategy": "none"}),
        Question("translation", TEXT, {"max_new_tokens": 6}),
        Question("video-classification", video(), {"top_k": 2}),
        Question("zero-shot-audio-classification", sound(), _LABELS),
        Question("zero-shot-classification", [TEXT, "a"], _LABELS),
        Question("zero-shot-image-classification", [picture(), picture(1)], _LABELS),
        Question("zero-shot-object-detection", picture(), {**_LABELS, **_ALL}),
    )
}


def alone(model: StoredModel, question: Question) -> Any:
    """The answer of the pipeline in this process, as JSON."""
    with pipeline(question.task, model) as pipe:
        found = pipe(question.inputs, **question.options)
        several = isinstance(question.inputs, list)
        return json.loads(json.dumps([pipe.to_json(one) for one in found] if several else pipe.to_json(found)))


def served(server: Running, name: str, question: Question) -> Any:
    """The answer of Hugging Face's API for the task, in the shape of the pipeline."""
    body = {"inputs": sent(question.inputs), "parameters": dict(question.options)}
    response = server.post(f"/models/{name}/pipeline/{question.task}", body)
    assert response.status_code == 200, f"{name}: {response.text}"
    if question.task == "image-to-image":
        assert response.headers["content-type"] == "image/png"
        return base64.b64encode(response.content).decode("ascii")
    found = response.json()
    if question.task == "text-classification":
        return found[0]  # of one text, as clients read it
    return found


def by_legacy(server: Running, name: str, question: Question) -> Any:
    """The answer of the legacy API for the task."""
    server.post("/api/huggingface/models", {"model_id": name, "name": name, "model_type": question.task})
    body = {"model_id": name, "task": question.task, "inputs": sent(question.inputs), **question.options}
    response = server.post("/api/huggingface/pipeline", body)
    assert response.status_code == 200, f"{name}: {response.text}"
    return response.json()["results"]


def in_the_shape_of_clients(question: Question, answer: Any) -> Any:
    """What :func:`alone` answers, in the shape in which Hugging Face's API sends it."""
    if question.task == "zero-shot-classification":
        each = answer if isinstance(answer, list) else [answer]
        pairs = [
            [{"label": label, "score": score} for label, score in zip(one["labels"], one["scores"], strict=True)]
            for one in each
        ]
        return pairs if isinstance(answer, list) else pairs[0]
    if question.task == "image-segmentation":
        return [{name: value for name, value in segment.items() if value is not None} for segment in answer]
    return answer


def difference(found: Any, expected: Any, place: str = "$") -> str | None:
    """Where two JSON values differ; None where they are equal but for the rounding of numbers."""
    if isinstance(expected, dict) and isinstance(found, dict):
        if found.keys() != expected.keys():
            return f"{place} has {sorted(found)}, and not {sorted(expected)}"
        return _first(difference(found[key], value, f"{place}.{key}") for key, value in expected.items())
    if isinstance(expected, list) and isinstance(found, list):
        if len(found) != len(expected):
            return f"{place} has {len(found)} entries, and not {len(expected)}"
        first, second = _numbers(found), _numbers(expected)
        if first is not None and second is not None and first.shape == second.shape:
            return None if np.allclose(first, second, rtol=1e-4, atol=TOLERANCE) else f"{place} has other numbers"
        return _first(
            difference(*pair, f"{place}[{index}]") for index, pair in enumerate(zip(found, expected, strict=True))
        )
    if isinstance(expected, float) and isinstance(found, (int, float)):
        return (
            None
            if np.isclose(found, expected, rtol=1e-4, atol=TOLERANCE)
            else f"{place} is {found}, and not {expected}"
        )
    return None if found == expected else f"{place} is {str(found)[:200]}, and not {str(expected)[:200]}"


def _numbers(values: list[Any]) -> NDArray[np.float64] | None:
    try:
        found = np.array(values)
    except ValueError:  # lists of several lengths
        return None
    return found if found.dtype.kind == "f" else None


def _first(found: Any) -> str | None:
    return next((one for one in found if one is not None), None)


def sent(inputs: Any) -> Any:
    """A value as JSON has it: the content of a file in base64."""
    if isinstance(inputs, bytes):
        return base64.b64encode(inputs).decode("ascii")
    if isinstance(inputs, dict):
        return {name: sent(value) for name, value in inputs.items()}
    return [sent(one) for one in inputs] if isinstance(inputs, list) else inputs
