"""What the decoders of automatic-speech-recognition share: options, and how a pipeline calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from gpux.errors import UsageError
from gpux.pipelines.audio.base import AudioOpenOptions
from gpux.pipelines.generation.options import GenerationKeywords
from gpux.pipelines.options import CallOptions, Option
from gpux.processors.audio.load import SoundInput


class AutomaticSpeechRecognitionOptions(GenerationKeywords, CallOptions, total=False):
    """Options of automatic-speech-recognition; those of generation are for encoder-decoders."""

    generate_kwargs: Annotated[
        Mapping[str, Any] | None, Option("options in a dict, as transformers takes those of encoder-decoders")
    ]
    language: Annotated[str | None, Option("Whisper: language of the sound, 'german' or 'de'; by default detected")]
    translate: Annotated[bool | None, Option("Whisper: give English text; as the task 'translate' of transformers")]
    return_language: Annotated[bool | None, Option("Whisper: give the language of each chunk")]
    prompt: Annotated[str | None, Option("Whisper: text before the sound, such as names that are spoken")]
    prompt_ids: Annotated[Sequence[int] | None, Option("Whisper: tokens of such a text, the begin token included")]
    prompt_condition_type: Annotated[
        Literal["first-segment", "all-segments"] | None,
        Option("Whisper: where the prompt is given to the decoder", default="first-segment"),
    ]
    condition_on_prev_tokens: Annotated[
        bool | None, Option("Whisper: give the text so far to the decoder, in sounds of more than 30 s")
    ]
    temperatures: Annotated[
        Sequence[float] | None, Option("Whisper: temperatures to try in order, where a threshold is not met")
    ]
    compression_ratio_threshold: Annotated[
        float | None, Option("Whisper: try the next temperature for text that repeats itself more than this; 1.35")
    ]
    logprob_threshold: Annotated[
        float | None, Option("Whisper: try the next temperature for text whose mean log probability is below; -1.0")
    ]
    no_speech_threshold: Annotated[
        float | None, Option("Whisper: leave out unlikely text where silence is more probable than this; 0.6")
    ]
    timeout: Annotated[float | None, Option("encoder-decoders: seconds after which a text ends")]
    vad: Annotated[
        str | Path | None,
        Option("encoder-decoders: read the speech alone: path or reference of a silero voice activity model"),
    ]
    vad_parameters: Annotated[
        Mapping[str, Any] | None,
        Option("thresholds of vad, as faster-whisper has them: threshold, min_silence_duration_ms, speech_pad_ms …"),
    ]

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
    return_segments: Annotated[
        bool | None,
        Option("Whisper: give the segments with their tokens, temperature, mean log probability and more"),
    ]


class AutomaticSpeechRecognitionArguments(AutomaticSpeechRecognitionOptions, AudioOpenOptions, total=False):
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
    given = list(stride) if isinstance(stride, Sequence) else [stride, stride]
    wrong = UsageError(f"chunk_length_s={chunk!r} with stride_length_s={stride!r}", hint="They are seconds.")
    if len(given) != 2 or not isinstance(chunk, (int, float)):
        raise wrong
    seconds = [chunk, *(chunk / 6 if each is None else each for each in given)]
    if not all(isinstance(each, (int, float)) and each >= 0 for each in seconds):
        raise wrong
    length, left, right = map(float, seconds)
    if length and length <= left + right:
        raise UsageError(
            f"a chunk of {length} s is not longer than its strides, {left} s and {right} s",
            hint="Set a smaller stride_length_s.",
        )
    return length, left, right
