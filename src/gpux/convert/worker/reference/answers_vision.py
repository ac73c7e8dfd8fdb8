"""Reference answers of ``transformers.pipeline`` for pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpux.convert.answer_case import CALL
from gpux.convert.worker.reference.answers_images import labelled
from gpux.convert.worker.reference.answers_inputs import Question
from gpux.convert.worker.reference.answers_library import Opened, Original, jsonable


def open_image_labels(original: Original) -> Opened:
    """``pipeline("image-classification")``."""
    pipe = original.open_pipeline(image_processor=original.open_image_processor())

    def ask(question: Question) -> tuple[Question, Any]:
        return question, jsonable(pipe(as_pil(question.inputs), **question.options))

    return Opened(CALL, list(labelled()), ask)


def as_pil(inputs: Any) -> Any:
    """Arrays of pictures as PIL images, which is what transformers reads."""
    from PIL import Image

    if isinstance(inputs, np.ndarray):
        return Image.fromarray(inputs)
    return [as_pil(item) for item in inputs] if isinstance(inputs, list) else inputs
