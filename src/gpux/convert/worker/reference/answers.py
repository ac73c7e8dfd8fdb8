"""Reference answers: what the reference library answers to the fixed inputs of a task, with the original in memory.

A task that gpux has a pipeline for has an entry in :data:`TASKS`; its inputs are in
:mod:`gpux.convert.worker.reference.answers_inputs`. A reference library that fails on a repository does not fail the
conversion: the kind of answers that it did not give is recorded with the reason.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpux.convert.answer_case import CALL, ENCODE, AnswerCase, AnswerSet
from gpux.convert.worker.reference.answers_audio import (
    open_compared_sounds,
    open_frames,
    open_sound_labels,
    open_sound_vectors,
    open_speakers,
    open_speech,
)
from gpux.convert.worker.reference.answers_detection import (
    open_depths,
    open_masks_of_points,
    open_named_objects,
    open_objects,
    open_points,
    open_segments,
)
from gpux.convert.worker.reference.answers_generation import open_decoder, open_encoder_decoder
from gpux.convert.worker.reference.answers_inputs import Question
from gpux.convert.worker.reference.answers_library import NoReferenceError, Opened, Original, one_line
from gpux.convert.worker.reference.answers_sentence import is_sentence_model, open_sentences
from gpux.convert.worker.reference.answers_text import (
    open_found,
    open_labels,
    open_masks,
    open_token_labels,
    open_token_vectors,
)
from gpux.convert.worker.reference.answers_vision import (
    open_captions,
    open_compared_labels,
    open_image_labels,
    open_image_vectors,
    open_made_pictures,
)

log = logging.getLogger(__name__)

#: Share of the processor time of the conversion so far that answers may take, and seconds that they may always take.
SHARE, SECONDS = 0.1, 1.2
#: Difference of two runs with the same input, relative and absolute, above which answers are random.
SAME = 1e-5


#: ``main_input_name`` of an original that reads no texts -> opens the reference library of its vectors.
_VECTORS: dict[str, Callable[[Original], Opened]] = {
    "input_features": open_sound_vectors,
    "input_values": open_sound_vectors,
    "pixel_values": open_image_vectors,
}


def _open_vectors(original: Original) -> Opened:
    if is_sentence_model(original.source):
        return open_sentences(original)
    return _VECTORS.get(original.model.main_input_name, open_token_vectors)(original)


#: The Hub's name of a task -> opens its reference library.
TASKS: dict[str, Callable[[Original], Opened]] = {
    "depth-estimation": open_depths,
    "audio-classification": open_sound_labels,
    "audio-frame-classification": open_frames,
    "audio-xvector": open_speakers,
    "automatic-speech-recognition": open_speech,
    "feature-extraction": _open_vectors,
    "fill-mask": open_masks,
    "image-classification": open_image_labels,
    "image-segmentation": open_segments,
    "keypoint-detection": open_points,
    "mask-generation": open_masks_of_points,
    "object-detection": open_objects,
    "image-to-image": open_made_pictures,
    "image-to-text": open_captions,
    "question-answering": open_found,
    "text-classification": open_labels,
    "text-generation": open_decoder,
    "text2text-generation": open_encoder_decoder,
    "token-classification": open_token_labels,
    "zero-shot-audio-classification": open_compared_sounds,
    "zero-shot-image-classification": open_compared_labels,
    "zero-shot-object-detection": open_named_objects,
}


class ReferenceAnswers:
    """Collects the reference answers of one conversion.

    Args:
        source: folder of the repository.
        task: the Hub's name.
        trust_remote_code: run code of the repository.
        tokenizer: transformers' tokenizer to ask with; None: the one that ``transformers.pipeline`` loads.
    """

    def __init__(self, source: Path, task: str, *, trust_remote_code: bool = False, tokenizer: Any = None) -> None:
        self._tokenizer = tokenizer
        self._source, self._task, self._trust = source, task.removesuffix("-with-past"), trust_remote_code
        self.found = AnswerSet()  #: empty before :meth:`ask`, and for tasks without a pipeline

    def ask(self, model: Any, most: int | None = None) -> None:
        """Ask the original before it is released; its configuration may be changed.

        Args:
            model: the original in evaluation mode.
            most: tokens that the graphs read; None: any number.
        """
        if self._task not in TASKS:
            return
        now = time.process_time()
        deadline = now + max(SECONDS, SHARE * now)
        original = Original(model, self._source, self._task, self._trust, deadline, self._tokenizer, most)
        kind = ENCODE if self._task == "feature-extraction" and is_sentence_model(self._source) else CALL
        cases: list[AnswerCase] = []
        failures: dict[str, str] = {}
        versions = {"transformers": version("transformers")}
        try:
            torch.manual_seed(0)
            opened = TASKS[self._task](original)
            versions |= opened.versions
            cases = _answered(original, opened, failures)
        except Exception as exc:  # noqa: BLE001 - reference libraries raise anything for what they do not support
            traceback.print_exc()
            failures[kind] = one_line(exc).replace(str(self._source), self._source.name)
        self.found = AnswerSet(tuple(cases), versions, failures)


def _answered(original: Original, opened: Opened, failures: dict[str, str]) -> list[AnswerCase]:
    """The answers to questions until the deadline; three are asked at least, if the first ones have no answer.

    Raises:
        NoReferenceError: no question has an answer, or two answers to the same question differ.
    """
    reasons: list[str] = []
    answered: list[tuple[float, Question, Any]] = []  # seconds, question, answer
    for number, question in enumerate(opened.questions):
        if (answered or number > 2) and original.left() < 0:
            total = len(opened.questions)
            failures[f"further {opened.kind}"] = f"the time for answers was over after {number} of {total} inputs"
            break
        began = time.process_time()
        try:
            found = opened.ask(question)
        except Exception as exc:  # noqa: BLE001 - as above; the next input may have an answer
            log.warning("no reference answer to %s: %s", question.name, one_line(exc))
            reasons.append(one_line(exc))
            continue
        if found is not None:
            answered.append((time.process_time() - began, *found))
    if not answered:
        raise NoReferenceError(reasons[0] if reasons else "no input has an answer that could be compared")
    _, question, expected = min(answered, key=lambda one: one[0])
    again = opened.ask(question)
    if again is None or not _same(expected, again[1]):
        raise NoReferenceError("not reproducible: two answers to the same input differ")
    return [
        AnswerCase(f"{opened.kind}/{asked.name}", opened.kind, asked.inputs, answer, asked.options)
        for _, asked, answer in answered
    ]


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, (np.ndarray, float)):
        return np.shape(first) == np.shape(second) and np.allclose(first, second, SAME, SAME, equal_nan=True)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(value, second[key]) for key, value in first.items())
    if isinstance(first, list):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)
