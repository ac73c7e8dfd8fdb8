"""Reference answers of ``transformers.pipeline`` for sounds, and of the model itself where it has no pipeline."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from gpux.convert.answer_case import CALL
from gpux.convert.worker.reference.answers_inputs import Question
from gpux.convert.worker.reference.answers_library import NoReferenceError, Opened, Original, floats, jsonable
from gpux.convert.worker.reference.answers_sounds import compared, heard, labelled, spoken
from gpux.convert.worker.reference.answers_speech import open_written_speech

#: The two best scores of a frame differ by this at least, relative to the larger of 1 and the largest score: more than
#: twice the tolerance of graphs.
CLEAR = 2.5e-4


def open_sound_labels(original: Original) -> Opened:
    """``pipeline("audio-classification")``."""
    extractor = original.open_feature_extractor()
    pipe = original.open_pipeline(feature_extractor=extractor)

    def ask(question: Question) -> tuple[Question, Any]:
        return question, jsonable(pipe(_copied(question.inputs), **question.options))

    return Opened(CALL, list(labelled(extractor.sampling_rate)), ask)


def open_compared_sounds(original: Original) -> Opened:
    """``pipeline("zero-shot-audio-classification")``."""
    extractor = original.open_feature_extractor()
    pipe = original.open_pipeline(feature_extractor=extractor, tokenizer=original.open_tokenizer())

    def ask(question: Question) -> tuple[Question, Any]:
        return question, jsonable(pipe(question.inputs["array"], **question.options))

    return Opened(CALL, list(compared(extractor.sampling_rate)), ask)


def open_sound_vectors(original: Original) -> Opened:
    """The last hidden state [1, frames, size], of the encoder if the model has a decoder too."""
    encoder = original.model.get_encoder() if original.model.config.is_encoder_decoder else original.model
    return _of_model(original, encoder, lambda found: floats(found[0]))


def open_speakers(original: Original) -> Opened:
    """The embeddings [size] of a model for x-vectors."""
    return _of_model(original, original.model, lambda found: floats(found.embeddings[0]))


def open_frames(original: Original) -> Opened:
    """The scores of the labels of each frame."""
    names = original.model.config.id2label

    def answer(found: Any) -> dict[str, Any]:
        scores = floats(torch.sigmoid(found.logits[0]))
        return {"labels": [str(names[index]) for index in range(scores.shape[1])], "scores": scores}

    return _of_model(original, original.model, answer, {"threshold": None})


def open_speech(original: Original) -> Opened:
    """``pipeline("automatic-speech-recognition")``: text of a CTC output, or of a decoder."""
    extractor = original.open_feature_extractor()
    pipe = original.open_pipeline(feature_extractor=extractor, tokenizer=original.open_tokenizer())
    if pipe.type.startswith("seq2seq"):
        return open_written_speech(original, pipe)
    if pipe.type != "ctc":
        raise NoReferenceError(f"speech recognition of the kind {pipe.type} is not compared")
    margins = _Margins()
    original.model.register_forward_hook(margins)

    def ask(question: Question) -> tuple[Question, Any] | None:
        margins.least = float("inf")
        answer = jsonable(pipe(_copied(question.inputs), **question.options))
        return (question, answer) if margins.least > CLEAR else None

    return Opened(CALL, list(spoken(extractor.sampling_rate)), ask)


class _Margins:
    """How far the best score of a frame is from the second, in the runs of a model."""

    def __init__(self) -> None:
        self.least = float("inf")

    def __call__(self, model: Any, inputs: Any, output: Any) -> None:
        best = output.logits.detach().float().topk(2, dim=-1).values
        if best.numel():
            scale = max(1.0, float(output.logits.abs().max()))
            self.least = min(self.least, float((best[..., 0] - best[..., 1]).min()) / scale)


def _of_model(original: Original, model: Any, answer: Any, options: dict[str, Any] | None = None) -> Opened:
    """The outputs of a model to what its feature extractor makes of a sound."""
    extractor = original.open_feature_extractor()
    known = inspect.signature(model.forward).parameters

    def ask(question: Question) -> tuple[Question, Any]:
        array, rate = question.inputs["array"], question.inputs["sampling_rate"]
        prepared = extractor(array, sampling_rate=rate, return_tensors="pt")
        with torch.no_grad():
            found = model(**{name: value for name, value in prepared.items() if name in known})
        return question, answer(found)

    questions = [Question(one.name, one.inputs, options or {}) for one in heard(extractor.sampling_rate)]
    return Opened(CALL, questions, ask)


def _copied(inputs: Any) -> Any:
    """Sounds as the pipelines read them, which take dicts apart."""
    return [dict(one) for one in inputs] if isinstance(inputs, list) else dict(inputs)
