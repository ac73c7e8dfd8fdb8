"""What the decoders of automatic-speech-recognition share: options, and how a pipeline calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from gpux.errors import UsageError
from gpux.pipelines.base import OpenOptions
from gpux.pipelines.options import CallOptions, Option
from gpux.processors.audio.load import SoundInput


class AutomaticSpeechRecognitionOptions(CallOptions, total=False):
    """Options of automatic-speech-recognition."""

    chunk_length_s: Annotated[
        float | None, Option("seconds of a chunk; 0: the whole sound; by default long sounds only are read in chunks")
    ]
    stride_length_s: Annotated[
        float | Sequence[float] | None,
        Option("seconds that a chunk shares with the one before and after it; by default a sixth of a chunk"),
    ]
    return_timestamps: Annotated[
        Literal["char", "word"] | bool | None,
        Option("seconds of each char (CTC), word, or segment (True: encoder-decoders)"),
    ]


class AutomaticSpeechRecognitionArguments(AutomaticSpeechRecognitionOptions, OpenOptions, total=False):
    """Keywords of :class:`gpux.pipelines.audio.speech_recognition.AutomaticSpeechRecognitionPipeline`."""


class SpeechDecoder(Protocol):
    """How one kind of model turns sounds into text."""

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check the options of a call.

        Raises:
            UsageError: an option is invalid, or the model does not have it.
        """

    def transcribe(self, sounds: Sequence[SoundInput], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The answer to each sound.

        Args:
            sounds: as the caller gave them; a file is read in blocks where it may be long.
            options: of :meth:`resolve`, and ``batch_size``.

        Returns:
            ``{"text": str}``, and with timestamps ``{"text": str, "chunks": [{"text": str, "timestamp": (start,
            end)}]}`` in seconds.

        Raises:
            InputError: a sound cannot be read; ``index`` is its place.
        """


def strides(options: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Seconds of a chunk and of its left and right strides; None if the call does not set a chunk's length.

    Raises:
        UsageError: they are no such numbers, or the strides leave nothing of a chunk.
    """
    chunk, stride = options.get("chunk_length_s"), options.get("stride_length_s")
    if chunk is None:
        if stride is not None:
            raise UsageError("stride_length_s was given without chunk_length_s", hint="Give both.")
        return None
    pair = stride if isinstance(stride, Sequence) else [chunk / 6 if stride is None else stride] * 2
    if len(pair) != 2 or not all(isinstance(each, (int, float)) and each >= 0 for each in (chunk, *pair)):
        raise UsageError(f"chunk_length_s={chunk!r} with stride_length_s={stride!r}", hint="They are seconds.")
    if chunk and chunk <= pair[0] + pair[1]:
        raise UsageError(
            f"a chunk of {chunk} s is not longer than its strides, {pair[0]} s and {pair[1]} s",
            hint="Set a smaller stride_length_s.",
        )
    return float(chunk), float(pair[0]), float(pair[1])
