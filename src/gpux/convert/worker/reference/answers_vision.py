"""Reference answers of ``transformers.pipeline`` for pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from transformers import LogitsProcessorList

from gpux.convert.answer_case import CALL
from gpux.convert.worker.reference.answers_generation import Asker
from gpux.convert.worker.reference.answers_images import SIZES, captioned, compared, enlarged, labelled, picture, seen
from gpux.convert.worker.reference.answers_inputs import Question
from gpux.convert.worker.reference.answers_library import NoReferenceError, Opened, Original, floats, jsonable

#: Model types whose pipeline takes a prompt.
PROMPTED = frozenset({"blip"})


def open_image_labels(original: Original) -> Opened:
    """``pipeline("image-classification")``."""
    pipe = original.open_pipeline(image_processor=original.open_image_processor())

    def ask(question: Question) -> tuple[Question, Any]:
        return question, jsonable(pipe(as_pil(question.inputs), **question.options))

    return Opened(CALL, list(labelled()), ask)


def open_image_vectors(original: Original) -> Opened:
    """``pipeline("image-feature-extraction")``.

    Raises:
        NoReferenceError: it would answer with another output than vectors: with scores of masks by SAM.
    """
    pipe = original.open_pipeline("image-feature-extraction", image_processor=original.open_image_processor())
    first = next(iter(pipe.forward(pipe.preprocess(as_pil(picture(*SIZES[0]))))))
    if first != "last_hidden_state":
        raise NoReferenceError(f"the first output of the original is {first}, and no vectors")

    def ask(question: Question) -> tuple[Question, Any]:
        answer = pipe(as_pil(question.inputs), **question.options)
        several = isinstance(question.inputs, list)
        return question, [floats(one) for one in answer] if several else floats(answer)

    return Opened(CALL, list(seen()), ask)


def open_compared_labels(original: Original) -> Opened:
    """``pipeline("zero-shot-image-classification")``."""
    parts = {"image_processor": original.open_image_processor(), "tokenizer": original.open_tokenizer()}
    pipe = original.open_pipeline(**parts)

    def ask(question: Question) -> tuple[Question, Any]:
        return question, jsonable(pipe(as_pil(question.inputs), **question.options))

    return Opened(CALL, list(compared()), ask)


def open_made_pictures(original: Original) -> Opened:
    """``pipeline("image-to-image")``."""
    pipe = original.open_pipeline(image_processor=original.open_image_processor())

    def ask(question: Question) -> tuple[Question, Any]:
        return question, jsonable(pipe(as_pil(question.inputs)))

    return Opened(CALL, list(enlarged()), ask)


def open_captions(original: Original) -> Opened:
    """``pipeline("image-to-text")``."""
    parts = {"image_processor": original.open_image_processor(), "tokenizer": original.open_tokenizer()}
    conditional = original.model.config.model_type in PROMPTED
    questions = list(captioned(conditional=conditional))
    return Opened(CALL, questions, _Captioner(original, len(questions), original.open_pipeline(**parts)).ask)


class _Captioner(Asker):
    def _joined(self, inputs: Any, answers: list[Any]) -> Any:
        return answers if isinstance(inputs, list) else answers[0]

    def _write(self, item: Any, options: Mapping[str, Any], processors: list[Any]) -> Any:
        generation = dict(options)
        prompt = {"prompt": generation.pop("prompt")} if "prompt" in generation else {}
        generation["logits_processor"] = LogitsProcessorList(processors)
        return self._pipe(as_pil(item), generate_kwargs=generation, **prompt)


def as_pil(inputs: Any) -> Any:
    """Arrays of pictures as PIL images, which is what transformers reads."""
    from PIL import Image

    if isinstance(inputs, np.ndarray):
        return Image.fromarray(inputs)
    return [as_pil(item) for item in inputs] if isinstance(inputs, list) else inputs
