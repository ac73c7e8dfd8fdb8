"""Text of speech, as ``transformers.pipeline("automatic-speech-recognition")`` of 4.57 answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Unpack

from gpux.model.variant import StoredModel
from gpux.pipelines.audio.base import AudioPipeline, Sounds
from gpux.pipelines.audio.ctc import CtcDecoder
from gpux.pipelines.audio.sequence import BEAMS, DECODER, TextDecoder, is_encoder_decoder
from gpux.pipelines.audio.speech import (
    AutomaticSpeechRecognitionArguments,
    AutomaticSpeechRecognitionOptions,
    SpeechDecoder,
)
from gpux.pipelines.audio.whisper import WhisperDecoder
from gpux.pipelines.base import AnswerRow
from gpux.pipelines.generation.base import generation_help
from gpux.pipelines.options import OptionSpec


class AutomaticSpeechRecognitionPipeline(AudioPipeline):
    """Text of speech, by models with a CTC output, and by encoder-decoders: Whisper, Moonshine, Speech2Text.

    >>> transcribe = AutomaticSpeechRecognitionPipeline(model)
    >>> transcribe("speech.wav")
    {'text': 'HELLO WORLD'}
    """

    task: ClassVar[str] = "automatic-speech-recognition"
    call_options: ClassVar[type] = AutomaticSpeechRecognitionOptions

    def __init__(self, model: StoredModel, **arguments: Unpack[AutomaticSpeechRecognitionArguments]) -> None:
        if any(graph.name == DECODER for graph in model.manifest.graphs):  # which makes many short runs
            self.huge_pages = True
            if arguments.get("spinning") is None:
                arguments["spinning"] = True
        super().__init__(model, **arguments)
        self.decoder: SpeechDecoder = self._open_decoder()

    def _open_decoder(self) -> SpeechDecoder:
        if not is_encoder_decoder(self.graphs):
            return CtcDecoder(self)
        return WhisperDecoder(self) if self.config.get("model_type") == "whisper" else TextDecoder(self)

    def __call__(
        self,
        inputs: Sounds,
        *,
        task: Literal["transcribe", "translate"] | None = None,
        **options: Unpack[AutomaticSpeechRecognitionOptions],
    ) -> Any:
        """The text of speech.

        Args:
            inputs: a sound (path, bytes, file object, array, or a dict of an array and its rate), or several.
            task: of a Whisper model: ``translate`` gives English text.
            options: see :class:`AutomaticSpeechRecognitionOptions`.

        Returns:
            ``{"text": str}``, with ``return_timestamps`` also ``"chunks": [{"text": str, "timestamp": (start, end)}]``
            in seconds, and a list of such dicts for several sounds. The end of the last chunk is None if the model
            gave none.

        Raises:
            InputError: an input cannot be read as a sound, or is too short for the model.
            UsageError: an unknown or invalid option, or one that the model does not have.
            ContextLengthError: a prompt leaves no room for text.
        """
        if task is not None:
            options["generate_kwargs"] = {**(options.get("generate_kwargs") or {}), "task": task}
        return super().__call__(inputs, **options)

    @classmethod
    def options(cls) -> list[OptionSpec]:
        """The options of a call; those of generation have defaults that apply if the model's own files set none."""
        found = [generation_help(spec) for spec in super().options()]
        return [replace(spec, default=BEAMS) if spec.name == "num_beams" else spec for spec in found]

    @property
    def shares_batches(self) -> bool:
        """Whether the model has a CTC output; a decoder has caches of its own."""
        return isinstance(self.decoder, CtcDecoder)

    @property
    def speech(self) -> dict[str, Any]:
        """What a Whisper model can do: ``timestamps`` (segment, word), ``tasks``, ``multilingual``; else no times."""
        if isinstance(self.decoder, WhisperDecoder):
            return self.decoder.abilities
        return {"timestamps": [], "tasks": ["transcribe"], "multilingual": True, "takes_language": False}

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check the options, as far as the model has them."""
        return self.decoder.resolve(options)

    def run(self, inputs: Any, options: Mapping[str, Any]) -> list[Any]:
        """One answer for each sound, in order; a long file is read in blocks, so that memory is bounded."""
        return self.decoder.transcribe(self.sounds(inputs), self.resolve(self._merged(options)))

    def postprocess(self, prepared: Any, output: Any, options: Any) -> Any:
        """Not used: a decoder's answer may need several runs."""
        return output

    def render(self, answer: Any) -> list[AnswerRow]:
        """The text, or a line for each chunk with its seconds."""
        if "chunks" not in answer:
            return [AnswerRow(answer["text"])]
        return [AnswerRow(f"{_times(chunk['timestamp'])}  {chunk['text']}") for chunk in answer["chunks"]]


def _times(span: Any) -> str:
    return " – ".join("…" if second is None else f"{second:.2f}" for second in span)
