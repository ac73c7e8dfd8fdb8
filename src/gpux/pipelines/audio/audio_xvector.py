"""Vectors of speakers: the embeddings of models ``…ForXVector``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import numpy as np

from gpux.errors import UnsupportedError
from gpux.model.variant import StoredModel
from gpux.pipelines.audio.audio_feature_extraction import VectorArguments, VectorOptions
from gpux.pipelines.audio.base import AudioPipeline, Sounds
from gpux.pipelines.base import AnswerRow
from gpux.processors.audio.prepared import PreparedSound

_EMBEDDINGS = "embeddings"
_SHOWN = 5


class AudioXVectorPipeline(AudioPipeline):
    """A vector of each sound, near to those of the same speaker.

    >>> speaker = AudioXVectorPipeline(model, return_arrays=True)
    >>> first, second = speaker(["first.wav", "second.wav"])
    >>> float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))
    0.93
    """

    task: ClassVar[str] = "audio-xvector"
    call_options: ClassVar[type] = VectorOptions
    outputs = (_EMBEDDINGS,)

    def __init__(self, model: StoredModel, **arguments: Unpack[VectorArguments]) -> None:
        super().__init__(model, **arguments)
        if not any(spec.name == _EMBEDDINGS for spec in self.session.outputs):
            raise UnsupportedError(
                f"the graph of {model.id} gives {', '.join(spec.name for spec in self.session.outputs)}, and "
                f"{self.task} needs {_EMBEDDINGS}",
                hint=f"Convert the original weights with `gpux convert {model.id} --task {self.task}`.",
                model=model.id,
            )

    def __call__(self, inputs: Sounds, **options: Unpack[VectorOptions]) -> Any:
        """The vector of each sound; it is not normalized.

        Args:
            inputs: a sound (path, bytes, file object, array, or a dict of an array and its rate), or several.
            options: see :class:`VectorOptions`.

        Returns:
            A list of ``xvector_output_dim`` numbers, a list of such for several sounds; with ``return_arrays`` float32
            arrays.

        Raises:
            InputError: an input cannot be read as a sound, or is too short for the model; ``index`` is its place.
            UsageError: an unknown option.
        """
        return super().__call__(inputs, **options)

    def postprocess(self, prepared: PreparedSound, output: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """The vector."""
        found = np.asarray(output[_EMBEDDINGS], dtype=np.float32)
        return found if options.get("return_arrays") else found.tolist()

    def to_json(self, answer: Any) -> Any:
        """A list."""
        return answer.tolist() if isinstance(answer, np.ndarray) else answer

    def render(self, answer: Any) -> list[AnswerRow]:
        """The length and the first numbers."""
        begin = ", ".join(f"{value:.4f}" for value in answer[:_SHOWN])
        return [AnswerRow(f"{len(answer)} numbers: {begin}{' …' if len(answer) > _SHOWN else ''}")]
