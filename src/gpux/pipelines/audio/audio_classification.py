"""Labels of sounds, as ``transformers.pipeline("audio-classification")`` of 4.57 answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Unpack

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.audio.base import AudioOpenOptions, AudioPipeline, Sounds
from gpux.pipelines.base import AnswerRow, check_positive
from gpux.pipelines.options import CallOptions, Option
from gpux.processors.audio.prepared import PreparedSound
from gpux.runtime.numeric import sigmoid, softmax

#: Labels in an answer, unless the call sets ``top_k``.
_TOP = 5


class AudioClassificationOptions(CallOptions, total=False):
    """Options of audio-classification."""

    top_k: Annotated[int | None, Option("labels in an answer; None: all", default=_TOP)]
    function_to_apply: Annotated[
        Literal["softmax", "sigmoid", "none"] | None, Option("from logits to scores; None: softmax", default="softmax")
    ]


class AudioClassificationArguments(AudioClassificationOptions, AudioOpenOptions, total=False):
    """Keywords of :class:`AudioClassificationPipeline`."""


class AudioClassificationPipeline(AudioPipeline):
    """Labels with scores for sounds.

    >>> classify = AudioClassificationPipeline(model)
    >>> classify("dog.wav", top_k=1)
    [{'label': 'dog', 'score': 0.97}]
    """

    task: ClassVar[str] = "audio-classification"
    call_options: ClassVar[type] = AudioClassificationOptions
    outputs = ("logits",)

    def __init__(self, model: StoredModel, **arguments: Unpack[AudioClassificationArguments]) -> None:
        super().__init__(model, **arguments)
        named = self.config.get("id2label") or {}
        self.labels = {int(index): str(label) for index, label in named.items()}

    def __call__(self, inputs: Sounds, **options: Unpack[AudioClassificationOptions]) -> Any:
        """Labels, best first, with their scores.

        Args:
            inputs: a sound (path, bytes, file object, array, or a dict of an array and its rate), or several.
            options: see :class:`AudioClassificationOptions`.

        Returns:
            ``[{"label": str, "score": float}]``, and a list of such lists for several sounds.

        Raises:
            InputError: an input cannot be read as a sound, or is too short for the model.
            UsageError: an unknown or invalid option.
        """
        return super().__call__(inputs, **options)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check ``top_k`` and ``function_to_apply``."""
        check_positive(top_k=options.get("top_k"))
        function = options.get("function_to_apply")
        if function not in (None, "softmax", "sigmoid", "none"):
            raise UsageError(f"function_to_apply is {function!r}", hint="It may be softmax, sigmoid or none.")
        return options

    def postprocess(self, prepared: PreparedSound, output: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """The best labels, from the logits [labels]."""
        scores = _scores(output["logits"].astype(np.float32), options.get("function_to_apply"))
        best = np.argsort(-scores, kind="stable")[: options.get("top_k", _TOP)]
        return [{"label": self.labels.get(int(i), f"LABEL_{i}"), "score": float(scores[i])} for i in best]

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each label."""
        return [AnswerRow(entry["label"], entry["score"]) for entry in answer]


def _scores(logits: NDArray[np.float32], function: str | None) -> NDArray[np.float32]:
    if function == "none":
        return logits
    return sigmoid(logits) if function == "sigmoid" else softmax(logits)
