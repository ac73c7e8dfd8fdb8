"""Whisper models in automatic-speech-recognition: one call's options, sounds of any length, chunks, timestamps."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from gpux.errors import UnsupportedError, UsageError
from gpux.model.graph_io import ATTENTIONS
from gpux.pipelines.audio.base import AudioPipeline
from gpux.pipelines.audio.mel import LongMel, MelSource, PaddedMel
from gpux.pipelines.audio.sequence import (
    OpenedSound,
    generation_options,
    open_encoder_decoder,
    open_sound,
    published_options,
    voice_activity,
    with_generate_kwargs,
)
from gpux.pipelines.audio.speech import strides
from gpux.pipelines.audio.transcript import Transcript, WhisperVocabulary
from gpux.pipelines.audio.whisper_settings import WhisperSettings
from gpux.pipelines.audio.whisper_windows import Spoken, SpokenSegment, WhisperCall, WindowDecoder
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.processors.audio.load import SoundInput
from gpux.processors.audio.log_mel import WhisperExtractor
from gpux.runtime.generation.options import Number
from gpux.system.cancel import CancelToken


class WhisperDecoder:
    """See :class:`gpux.pipelines.audio.speech.SpeechDecoder`.

    Args:
        pipeline: with the graphs and the feature extractor.

    Raises:
        UnsupportedError: a part of the model is missing.
    """

    def __init__(self, pipeline: AudioPipeline) -> None:
        model, extractor = pipeline.model, pipeline.extractor
        if not isinstance(extractor, WhisperExtractor):
            raise UnsupportedError(
                f"{model.id} is a Whisper model with the feature extractor {extractor.class_name}",
                hint="Compare preprocessor_config.json with that of the original model.",
            )
        self._extractor, self._rate = extractor, pipeline.sampling_rate
        self._model = open_encoder_decoder(pipeline.graphs)
        self._settings = WhisperSettings.of(model)
        self._tokenizer = Tokenizer(model)
        self._vocabulary = WhisperVocabulary(self._tokenizer)
        self._windows = WindowDecoder(self._model, self._settings)
        self._options = published_options(model, pipeline.config, known=("forced_decoder_ids",))
        chunk = extractor.n_samples / extractor.sampling_rate
        self._precision = chunk / self._settings.places

    @property
    def abilities(self) -> dict[str, Any]:
        """See :attr:`AutomaticSpeechRecognitionPipeline.speech`."""
        settings = self._settings
        timestamps = [] if settings.no_timestamps is None else ["segment"]
        heads = {f"{ATTENTIONS}{layer}" for layer, _ in settings.heads or ()}
        if timestamps and heads and heads <= set(self._model.attentions):
            timestamps.append("word")
        multilingual = settings.multilingual is not False
        tasks = [*(settings.tasks or ())] if multilingual else ["transcribe"]
        return {"timestamps": timestamps, "tasks": tasks, "multilingual": multilingual, "takes_language": True}

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check the options of a call; adds ``call`` and ``strides``."""
        given = {**self._settings.defaults, **with_generate_kwargs(options)}
        timestamps = given.get("return_timestamps")
        if timestamps not in (None, True, False, "word"):
            raise UsageError(
                f"return_timestamps is {timestamps!r}, and a Whisper model gives segments (True) or 'word'",
                hint="Set one of them.",
            )
        if timestamps == "word":
            self._check_words()
        language, task = given.get("language"), given.get("task")
        if given.get("translate"):
            if task not in (None, "translate"):
                raise UsageError(f"translate and task={task!r} contradict each other", hint="Give one of them.")
            task = "translate"
        details = bool(given.get("return_segments"))
        self._settings.check(language=language, task=task, timestamps=bool(timestamps) or details)
        if details and given.get("chunk_length_s"):
            raise UsageError("return_segments and chunk_length_s cannot be combined", hint="Remove chunk_length_s.")
        if given.get("no_speech_threshold") is not None and given.get("logprob_threshold") is None:
            raise UsageError("no_speech_threshold needs logprob_threshold", hint="Set logprob_threshold=-1.0.")
        timeout = given.get("timeout")
        call = WhisperCall(
            self._options.with_options(**generation_options(given)),
            timestamps=timestamps,
            language=language,
            task=task,
            temperatures=_temperatures(given),
            compression_ratio_threshold=given.get("compression_ratio_threshold"),
            logprob_threshold=given.get("logprob_threshold"),
            no_speech_threshold=given.get("no_speech_threshold"),
            condition=bool(given.get("condition_on_prev_tokens")),
            prompt=self._prompt(given),
            prompts_all=_prompts_all(given),
            cancel=(given.get("cancel") or CancelToken()).child(),
            deadline=None if timeout is None else time.monotonic() + timeout,
            details=details,
        )
        return {**given, "call": call, "strides": strides(given), "voice_activity": voice_activity(given)}

    def transcribe(self, sounds: Sequence[SoundInput], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The answer to each sound."""
        return [self._one(sound, index, options) for index, sound in enumerate(sounds)]

    def _one(self, sound: SoundInput, index: int, options: Mapping[str, Any]) -> dict[str, Any]:
        call: WhisperCall = options["call"]
        transcript = Transcript(
            self._vocabulary,
            call.timestamps,
            return_language=bool(options.get("return_language")),
            precision=self._precision,
            window=self._extractor.n_samples / self._rate,
        )
        opened = open_sound(sound, self._rate, index, options)
        spoken, duration = Spoken(), 0.0
        if opened.silent:
            pass
        elif options["strides"] is not None and options["strides"][0]:
            self._chunks(opened, options["strides"], call, transcript)
        else:
            mel = self._mel(opened)
            spoken = self._windows.decode(mel, call)
            self._add(transcript, spoken)
            duration = mel.sounding * self._extractor.hop_length / self._rate
        text, chunks = transcript.finish()
        found: dict[str, Any] = {"text": text}
        if chunks is not None:
            found["chunks"] = opened.original_times(chunks, words=call.timestamps == "word")
        if call.details:
            segments = [self._segment(one) for one in spoken.segments]
            found["segments"] = opened.original_times([one for one in segments if one["text"].strip()], words=False)
            found |= {"language": spoken.language, "duration": duration}
        return found

    def _segment(self, segment: SpokenSegment) -> dict[str, Any]:
        """A segment in the words of OpenAI's ``verbose_json``; its times are ``timestamp``."""
        text = self._text(segment.window).encode()
        return {
            "seek": segment.seek,
            "timestamp": (round(segment.begin, 2), round(segment.end, 2)),
            "text": self._text(segment.tokens),
            "tokens": segment.tokens,
            "temperature": segment.temperature,
            "avg_logprob": segment.logprob,
            "compression_ratio": len(text) / len(zlib.compress(text)),
            "no_speech_prob": segment.no_speech,
        }

    def _text(self, tokens: Sequence[int]) -> str:
        words = self._vocabulary
        return words.decode([token for token in tokens if token < words.first_timestamp and token not in words.special])

    def _mel(self, sound: OpenedSound) -> MelSource:
        """The features of a whole sound, padded to a window if it is shorter."""
        first = sound.beginning(self._extractor.n_samples + 1)
        if len(first) <= self._extractor.n_samples:
            return PaddedMel(first, self._extractor)
        return LongMel(sound.blocks, self._extractor)

    def _chunks(
        self, sound: OpenedSound, stride: tuple[float, float, float], call: WhisperCall, transcript: Transcript
    ) -> None:
        """Decode overlapping chunks, each as a sound of its own."""
        if stride[0] > self._extractor.n_samples / self._rate:
            raise UsageError(
                f"chunk_length_s is {stride[0]:g}, and the model reads {self._extractor.n_samples / self._rate:g} s",
                hint="Set a smaller one.",
            )
        for chunk in sound.chunks(stride):
            spoken = self._windows.decode(PaddedMel(chunk.samples, self._extractor), call)
            self._add(transcript, spoken, chunk.stride)

    def _add(self, transcript: Transcript, spoken: Spoken, stride: tuple[float, float, float] | None = None) -> None:
        if spoken.language is not None:
            transcript.know_language(spoken.language)
        transcript.add(spoken.tokens, spoken.times, stride)

    def _check_words(self) -> None:
        """Refuse words if the model cannot give their times.

        Raises:
            UsageError: no heads are known.
            UnsupportedError: the graph does not return the weights of its cross-attention.
        """
        heads = self._settings.heads
        if not heads:
            raise UsageError(
                f"generation_config.json of {self._settings.model} has no alignment_heads, so words have no times",
                hint="Set return_timestamps=True for segments, or copy alignment_heads from the original model.",
            )
        missing = {f"{ATTENTIONS}{layer}" for layer, _ in heads} - set(self._model.attentions)
        if missing:
            raise UnsupportedError(
                f"the decoder of {self._settings.model} does not return {', '.join(sorted(missing))}, which the times"
                " of words need",
                hint=f"Convert its weights: `gpux convert {self._settings.model}`.",
                model=self._settings.model,
            )

    def _prompt(self, given: Mapping[str, Any]) -> tuple[int, ...]:
        """The tokens of text before the sound."""
        ids, text = given.get("prompt_ids"), given.get("prompt")
        if ids is not None and text is not None:
            raise UsageError("prompt and prompt_ids were both given", hint="Give one of them.")
        if text is not None:
            if not isinstance(text, str):
                raise UsageError(f"prompt is {type(text).__name__}, and must be a text", hint="Give a text.")
            if self._settings.previous is None:
                raise UnsupportedError(f"{self._settings.model} has no token for a prompt", hint="Remove prompt.")
            words = self._tokenizer.ids(" " + text.strip(), add_special_tokens=False)
            return (self._settings.previous, *words)
        found = () if ids is None else tuple(int(token) for token in ids)
        if any(not 0 <= token < self._settings.vocabulary for token in found):
            raise UsageError("prompt_ids has a token that the model does not have", hint="Give prompt, a text.")
        return found


def _temperatures(given: Mapping[str, Any]) -> tuple[float, ...]:
    """The temperatures to try, in order."""
    found = given.get("temperatures", given.get("temperature"))
    several = found if isinstance(found, Sequence) and not isinstance(found, str) else [found]
    values = tuple(0.0 if value is None else value for value in several)
    if not values or not all(Number(0).allows(value) for value in values):
        raise UsageError(f"temperature is {found!r}", hint="Give a number of at least 0, or several to try in order.")
    return tuple(map(float, values))


def _prompts_all(given: Mapping[str, Any]) -> bool:
    kind = given.get("prompt_condition_type") or "first-segment"
    if kind not in ("first-segment", "all-segments"):
        raise UsageError(f"prompt_condition_type is {kind!r}", hint="It is 'first-segment' or 'all-segments'.")
    if kind == "all-segments" and not given.get("condition_on_prev_tokens"):
        raise UsageError(
            "prompt_condition_type='all-segments' needs condition_on_prev_tokens=True", hint="Set both, or neither."
        )
    return bool(kind == "all-segments")
