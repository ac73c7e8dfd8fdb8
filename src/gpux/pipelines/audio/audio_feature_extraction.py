"""Vectors of sounds: the last hidden state of an encoder of sounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Unpack

import numpy as np

from gpux.model.variant import StoredModel
from gpux.pipelines.audio.base import AudioOpenOptions, AudioPipeline, Sounds
from gpux.pipelines.base import AnswerRow
from gpux.pipelines.options import CallOptions, Option
from gpux.processors.audio.prepared import PreparedSound
from gpux.runtime.token_outputs import TOKEN_VECTORS

_SHOWN = 5


class VectorOptions(CallOptions, total=False):
    """Options of audio-feature-extraction and audio-xvector."""

    return_arrays: Annotated[bool, Option("numpy arrays instead of nested lists", default=False)]


class VectorArguments(VectorOptions, AudioOpenOptions, total=False):
    """Keywords of :class:`AudioFeatureExtractionPipeline`."""


class AudioFeatureExtractionPipeline(AudioPipeline):
    """Vectors of sounds: one for each frame.

    A task of gpux: models of sounds are stored for ``feature-extraction``, whose pipeline in transformers reads texts.

    >>> features = AudioFeatureExtractionPipeline(model, return_arrays=True)
    >>> features("speech.wav").shape
    (1, 149, 768)
    """

    task: ClassVar[str] = "audio-feature-extraction"
    model_task: ClassVar[str] = "feature-extraction"
    call_options: ClassVar[type] = VectorOptions

    def __init__(self, model: StoredModel, **arguments: Unpack[VectorArguments]) -> None:
        super().__init__(model, **arguments)
        floats = [spec.name for spec in self.session.outputs if "float" in spec.dtype]
        self._features = ([name for name in TOKEN_VECTORS if name in floats] or floats)[0]
        self.outputs = (self._features,)

    def __call__(self, inputs: Sounds, **options: Unpack[VectorOptions]) -> Any:
        """The vectors of each sound.

        Args:
            inputs: a sound (path, bytes, file object, array, or a dict of an array and its rate), or several.
            options: see :class:`VectorOptions`.

        Returns:
            Nested lists [1, frames, size], a list of such for several sounds; with ``return_arrays`` float32 arrays of
            that shape.

        Raises:
            InputError: an input cannot be read as a sound, or is too short for the model; ``index`` is its place.
            UsageError: an unknown option.
        """
        return super().__call__(inputs, **options)

    def postprocess(self, prepared: PreparedSound, output: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """The vectors with a leading axis of length 1, as pipelines of texts and pictures have it."""
        found = np.asarray(output[self._features][None], dtype=np.float32)
        return found if options.get("return_arrays") else found.tolist()

    def to_json(self, answer: Any) -> Any:
        """Nested lists."""
        return answer.tolist() if isinstance(answer, np.ndarray) else answer

    def render(self, answer: Any) -> list[AnswerRow]:
        """The shape and the first numbers."""
        found = np.asarray(answer)
        begin = ", ".join(f"{value:.4f}" for value in found.ravel()[:_SHOWN])
        return [AnswerRow(f"{' × '.join(map(str, found.shape))} numbers: {begin}{' …' if found.size > _SHOWN else ''}")]
