"""Reference answers of ``transformers.pipeline`` for encoders of texts: token vectors, labels, words for masks."""

from __future__ import annotations

from typing import Any

from gpux.convert.answer_case import CALL
from gpux.convert.worker.reference.answers_inputs import Question, Texts, classified, filled, read
from gpux.convert.worker.reference.answers_library import NoReferenceError, Opened, Original, floats, jsonable


def open_token_vectors(original: Original) -> Opened:
    """``pipeline("feature-extraction")``."""
    pipe, texts = original.open_pipeline(), original.texts()

    def ask(question: Question) -> tuple[Question, Any] | None:
        if _without_tokens(question.inputs, texts):
            return None
        answer = pipe(question.inputs)
        return question, jsonable(answer) if isinstance(question.inputs, list) else floats(answer)

    return Opened(CALL, list(read(texts)), ask)


def open_labels(original: Original) -> Opened:
    """``pipeline("text-classification")``."""
    pipe, texts = original.open_pipeline(), original.texts()

    def ask(question: Question) -> tuple[Question, Any] | None:
        if _without_tokens(question.inputs, texts):
            return None
        return question, jsonable(pipe(question.inputs, **question.options))

    return Opened(CALL, list(classified(texts)), ask)


def open_masks(original: Original) -> Opened:
    """``pipeline("fill-mask")``.

    Raises:
        NoReferenceError: the tokenizer has no mask token.
    """
    mask = original.open_tokenizer().mask_token
    if mask is None:
        raise NoReferenceError("the tokenizer has no mask token")
    pipe = original.open_pipeline()

    def ask(question: Question) -> tuple[Question, Any]:
        return question, jsonable(pipe(question.inputs, **question.options))

    return Opened(CALL, list(filled(original.texts(), mask)), ask)


def _without_tokens(inputs: Any, texts: Texts) -> bool:
    """Whether a text has no tokens, so that the model has nothing to read."""
    each = inputs if isinstance(inputs, list) else [inputs]
    return any(isinstance(text, str) and not texts.count(text) for text in each)
