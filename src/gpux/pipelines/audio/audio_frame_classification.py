"""Labels of the frames of a sound, for instance who speaks when: models ``…ForAudioFrameClassification``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np
from numpy.typing import NDArray

from gpux.errors import UsageError
from gpux.model.variant import StoredModel
from gpux.pipelines.audio.base import AudioOpenOptions, AudioPipeline, Sounds
from gpux.pipelines.base import AnswerRow
from gpux.pipelines.options import CallOptions, Option
from gpux.processors.audio.prepared import PreparedSound
from gpux.runtime.numeric import sigmoid

#: Score from which a frame has a label, as in the examples of transformers' documentation.
_THRESHOLD = 0.5


class AudioFrameClassificationOptions(CallOptions, total=False):
    """Options of audio-frame-classification."""

    threshold: Annotated[
        float | None, Option("score from which a frame has a label; None: no spans", default=_THRESHOLD)
    ]


class AudioFrameClassificationArguments(AudioFrameClassificationOptions, AudioOpenOptions, total=False):
    """Keywords of :class:`AudioFrameClassificationPipeline`."""


class AudioFrameClassificationPipeline(AudioPipeline):
    """Scores of every label for every frame of a sound, and the spans in which a label has a high score.

    >>> diarize = AudioFrameClassificationPipeline(model)
    >>> diarize("meeting.wav")["spans"]
    [{'label': 'SPEAKER_1', 'score': 0.91, 'timestamp': (0.0, 2.46)}]
    """

    task: ClassVar[str] = "audio-frame-classification"
    call_options: ClassVar[type] = AudioFrameClassificationOptions
    outputs = ("logits",)

    def __init__(self, model: StoredModel, **arguments: Unpack[AudioFrameClassificationArguments]) -> None:
        super().__init__(model, **arguments)
        named = self.config.get("id2label") or {}
        self.labels = {int(index): str(label) for index, label in named.items()}

    def __call__(self, inputs: Sounds, **options: Unpack[AudioFrameClassificationOptions]) -> Any:
        """The scores of each frame.

        Args:
            inputs: a sound (path, bytes, file object, array, or a dict of an array and its rate), or several.
            options: see :class:`AudioFrameClassificationOptions`.

        Returns:
            ``{"labels": [str], "scores": [frames][labels], "spans": [{"label": str, "score": float, "timestamp":
            (start, end)}]}``, a list of such for several sounds. Scores are the sigmoid of the logits, so that a frame
            may have several labels; the score of a span is the mean of its frames', its times are seconds.

        Raises:
            InputError: an input cannot be read as a sound, or is too short for the model; ``index`` is its place.
            UsageError: an unknown or invalid option.
        """
        return super().__call__(inputs, **options)

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check ``threshold``."""
        given = options.get("threshold", _THRESHOLD)
        if given is not None and not 0 <= given <= 1:
            raise UsageError(f"threshold is {given}", hint="It is a score between 0 and 1, or None.")
        return options

    def postprocess(self, prepared: PreparedSound, output: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """Scores and spans, from the logits [frames, labels]."""
        scores = sigmoid(output["logits"].astype(np.float32))
        labels = [self.labels.get(index, f"LABEL_{index}") for index in range(scores.shape[1])]
        answer: dict[str, Any] = {"labels": labels, "scores": scores.tolist()}
        threshold = options.get("threshold", _THRESHOLD)
        if threshold is not None:
            seconds = prepared.samples / self.sampling_rate / len(scores)
            answer["spans"] = [
                {
                    "label": label,
                    "score": float(scores[first:end, index].mean()),
                    "timestamp": (round(first * seconds, 3), round(end * seconds, 3)),
                }
                for index, label in enumerate(labels)
                for first, end in spans(scores[:, index] >= threshold)
            ]
        return answer

    def render(self, answer: Any) -> list[AnswerRow]:
        """A line for each span."""
        rows = [
            AnswerRow(f"{span['timestamp'][0]:.2f} – {span['timestamp'][1]:.2f}  {span['label']}", span["score"])
            for span in answer.get("spans", ())
        ]
        return rows or [AnswerRow(f"{len(answer['scores'])} frames without a label")]


def spans(marked: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """The runs of True: the first place, and the one after the last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
