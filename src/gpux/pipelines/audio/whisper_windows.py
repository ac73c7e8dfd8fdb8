"""Tokens of a sound, window after window, as ``WhisperForConditionalGeneration.generate`` of transformers 4.57.

A window of 30 seconds is decoded; its last timestamp says where the next one begins. A window whose text repeats itself
or is unlikely is decoded again with a higher temperature, and left out if it has no speech.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpux.errors import ContextLengthError, UsageError
from gpux.model.graph_io import ATTENTIONS
from gpux.pipelines.audio.alignment import token_times
from gpux.pipelines.audio.mel import MelSource
from gpux.pipelines.audio.transcript import Timestamps
from gpux.pipelines.audio.whisper_rules import FRAMES, TIME_SECONDS, split, timestamp_rules
from gpux.pipelines.audio.whisper_settings import WhisperSettings
from gpux.runtime.generation.choose.processors import Processor, processors
from gpux.runtime.generation.choose.sampling import keep_top_k
from gpux.runtime.generation.engine.encoder_decoder import LOGITS, EncoderDecoder
from gpux.runtime.generation.loops import beams, stepwise
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.options import GenerationOptions
from gpux.runtime.numeric import log_softmax, softmax
from gpux.system.cancel import CancelToken

#: The temperature below which text is given to the next window.
_CALM = 0.5


@dataclass(frozen=True)
class WhisperCall:
    """The options of one call."""

    options: GenerationOptions
    timestamps: Timestamps = None
    language: str | None = None
    task: str | None = None
    temperatures: tuple[float, ...] = (0.0,)
    compression_ratio_threshold: float | None = None
    logprob_threshold: float | None = None
    no_speech_threshold: float | None = None
    condition: bool = False  #: give the text of earlier windows to later ones
    prompt: tuple[int, ...] = ()  #: text before the sound
    prompts_all: bool = False  #: give it to every window
    cancel: CancelToken = field(default_factory=CancelToken)
    deadline: float | None = None
    details: bool = False  #: keep the segments, each with what is known of its window


@dataclass(frozen=True)
class SpokenSegment:
    """A segment of a sound, and how its window was decoded."""

    seek: int  #: frame of features where its window begins
    begin: float  #: seconds
    end: float
    tokens: list[int]  #: text and timestamps
    window: list[int]  #: all tokens of its window
    temperature: float
    logprob: float  #: mean log probability of the window's tokens
    no_speech: float  #: probability of silence in the window


@dataclass
class Spoken:
    """What was generated for a sound."""

    tokens: list[int] = field(default_factory=list)  #: text and timestamps
    times: list[float] = field(default_factory=list)  #: for words: the end of each token in seconds
    language: str | None = None  #: its name
    segments: list[SpokenSegment] = field(default_factory=list)  #: with ``details``


@dataclass(frozen=True)
class _Decoded:
    """One decoding of a window."""

    tokens: list[int]  #: without the end token
    times: NDArray[np.float32]  #: seconds from the beginning of the window
    calm: bool  #: at a low temperature
    silent: bool  #: has no speech
    temperature: float
    logprob: float = 0.0  #: with ``details``: the mean of its tokens
    no_speech: float = 0.0  #: with ``details``: probability of silence


class WindowDecoder:
    """Decodes sounds with one model. Safe to use from many threads.

    Args:
        model: encoder and decoder.
        settings: of the model.
    """

    def __init__(self, model: EncoderDecoder, settings: WhisperSettings) -> None:
        self._model, self._settings = model, settings
        self.frames = FRAMES * settings.places  #: frames of features of a window

    def decode(self, mel: MelSource, call: WhisperCall) -> Spoken:
        """The tokens of a sound.

        Raises:
            ContextLengthError: the prompt leaves no room for text.
            NumericError: the model's scores are not finite.
        """
        return _Sound(self._model, self._settings, mel, call).decode(self.frames)


class _Sound:
    """The state of one sound."""

    def __init__(self, model: EncoderDecoder, settings: WhisperSettings, mel: MelSource, call: WhisperCall) -> None:
        self._model, self._settings, self._mel, self._call = model, settings, mel, call
        self._spoken = Spoken()
        self._begin: list[int] = []
        self._rules: list[Processor] = []
        self._earlier: list[int] = []  #: tokens of earlier windows, for the next
        self._texts = bool(call.prompt) and not call.prompts_all
        self._conditions = call.condition

    def decode(self, window: int) -> Spoken:
        """Decode one window after the other."""
        call, settings, seek = self._call, self._settings, 0
        stamped = bool(call.timestamps) or call.details or self._mel.frames > window
        if stamped and settings.no_timestamps is None:
            raise UsageError(
                f"{settings.model} gives no timestamps, which a sound of more than 30 seconds needs",
                hint="Set chunk_length_s=30.",
            )
        if self._texts:
            self._earlier = list(call.prompt[1:] if call.prompt[0] == settings.previous else call.prompt)
        self._rules = [timestamp_rules(settings)] if stamped else []
        while seek < self._mel.frames:
            call.cancel.check()
            frames = min(window, self._mel.frames - seek)
            hidden = self._encode(seek, frames, window)
            if not self._begin:
                self._begin = self._first_tokens(hidden, stamped)
            prompt = self._prompt()
            found = self._decode(hidden, prompt, self._mel.sounding - seek)
            self._conditions = call.condition and found.calm
            seek += frames if found.silent else self._take(found, seek, frames)
        return self._spoken

    def _encode(self, seek: int, frames: int, window: int) -> NDArray[Any]:
        features = self._mel.window(seek, frames)
        if frames < window:
            features = np.pad(features, ((0, 0), (0, window - frames)))
        return self._model.encode({"input_features": features[None]})

    def _first_tokens(self, hidden: NDArray[Any], stamped: bool) -> list[int]:
        """The tokens before the text; the language is the likeliest one, unless it is named."""
        call, settings = self._call, self._settings
        token = None if call.language is None else settings.language_token(call.language)
        if settings.detects(call.language, call.task):
            known = np.array(sorted((settings.languages or {}).values()))
            scores = self._model.review(hidden, [settings.start])[LOGITS][0, -1]
            token = int(known[scores[known].argmax()])
        begin = settings.begin(language=token, named=call.language is not None, task=call.task, timestamps=stamped)
        self._spoken.language = next(filter(None, map(settings.language_name, begin[1:2])), None)
        return begin

    def _prompt(self) -> list[int]:
        """All tokens that the decoder reads first."""
        call, settings = self._call, self._settings
        if self._conditions and self._earlier:
            kept = self._earlier[-(settings.target_places // 2 - 1) :]
            if call.prompts_all and call.prompt:
                return [*call.prompt, *kept, *self._begin]
            return [*([] if settings.previous is None else [settings.previous]), *kept, *self._begin]
        return [*call.prompt, *self._begin]

    def _decode(self, hidden: NDArray[Any], prompt: list[int], sounding: int) -> _Decoded:
        """Decode a window, with a higher temperature where the result is bad."""
        call = self._call
        for number, temperature in enumerate(call.temperatures):
            options = _at(call.options, temperature)
            made = self._generate(hidden, prompt, options)
            review = self._review(hidden, prompt, made)
            bad, silent = self._judge(prompt, made, options, review)
            if not bad or number == len(call.temperatures) - 1:
                break
        times = self._times(review, prompt, made, sounding)
        tokens = made[:-1] if made and made[-1] == self._settings.end else made
        logprob = no_speech = 0.0
        if call.details and LOGITS in review:
            logprob = self._mean_logprob(prompt, made, options, review[LOGITS][0])
            no_speech = self._silence(prompt, review[LOGITS][0])
        return _Decoded(tokens, times, temperature < _CALM, silent, temperature, logprob, no_speech)

    def _generate(self, hidden: NDArray[Any], prompt: list[int], options: GenerationOptions) -> list[int]:
        """Tokens after the prompt, with the end token."""
        limit = self._model.limit or self._settings.target_places
        if len(prompt) >= limit:
            raise ContextLengthError(
                f"the decoder reads {len(prompt)} tokens before the text, and its context has {limit}",
                hint="Shorten the prompt.",
                tokens=len(prompt),
                limit=limit - 1,
            )
        request = DecodeRequest(
            [prompt],
            options,
            encoder_input_ids=[()],
            processors=self._rules,
            cancel=self._call.cancel,
            deadline=self._call.deadline,
        )
        room = min(options.max_new_tokens, limit - len(prompt))
        with closing(self._model.open({}, room, hidden)) as state:
            if options.num_beams > 1:
                return list(beams.search(state, request)[0].tokens)
            return [step.token for step in stepwise.generate(state, request) if step.token is not None]

    def _review(self, hidden: NDArray[Any], prompt: list[int], made: list[int]) -> dict[str, NDArray[Any]]:
        """Scores and cross-attention of all tokens, for what the call needs of them."""
        names: list[str] = []
        if self._call.logprob_threshold is not None or self._call.details:
            names.append(LOGITS)
        if self._call.timestamps == "word":
            names += sorted({f"{ATTENTIONS}{layer}" for layer, _ in self._settings.heads or ()})
        return self._model.review(hidden, [*prompt, *made[:-1]], names) if names and made else {}

    def _judge(
        self, prompt: list[int], made: list[int], options: GenerationOptions, review: dict[str, NDArray[Any]]
    ) -> tuple[bool, bool]:
        """Whether to decode again, and whether the window has no speech."""
        call, bad = self._call, False
        if call.compression_ratio_threshold is not None:
            bad = compression_ratio(made, self._settings.vocabulary) > call.compression_ratio_threshold
        if call.logprob_threshold is None or LOGITS not in review:
            return bad, False
        scores = review[LOGITS][0]
        unlikely = self._mean_logprob(prompt, made, options, scores) < call.logprob_threshold
        limit = call.no_speech_threshold
        if limit is not None and unlikely and self._silence(prompt, scores) > limit:
            return False, True
        return bad or unlikely, False

    def _silence(self, prompt: list[int], scores: NDArray[Any]) -> float:
        """The probability of silence: of the token before the one for no timestamps, at the start token."""
        if self._settings.no_timestamps is None:
            return 0.0
        place = len(prompt) - len(self._begin)
        return float(softmax(scores[place].astype(np.float32))[self._settings.no_timestamps - 1])

    def _mean_logprob(
        self, prompt: list[int], made: list[int], options: GenerationOptions, scores: NDArray[Any]
    ) -> float:
        """The mean logarithm of the tokens' probabilities, after the processors."""
        ids = np.array([*prompt, *made], np.int64)
        applied = [*processors(options, len(made), ()), *self._rules]
        total = 0.0
        for number, token in enumerate(made):
            end = len(prompt) + number
            row = scores[end - 1].astype(np.float32)
            for process in applied:
                process(row, ids[:end], len(prompt))
            if options.do_sample and options.top_k:
                kept = np.full_like(row, -np.inf)
                places = keep_top_k(row, options.top_k)
                kept[places] = row[places]
                row = kept
            total += float(log_softmax(row)[token])
        return total / max(1, len(made))

    def _times(
        self, review: dict[str, NDArray[Any]], prompt: list[int], made: list[int], sounding: int
    ) -> NDArray[np.float32]:
        """When each token begins, which is when the one before it ends; the last one has no weights of its own.

        As transformers, except where the closing timestamp, which listens to no place of the sound, takes the whole of
        it, so that every token would begin at its start: then that row is left out, as OpenAI's ``whisper/timing.py``
        aligns words without it.
        """
        if self._call.timestamps != "word" or len(made) < 2:
            return np.zeros(len(made), np.float32)
        weights = [review[f"{ATTENTIONS}{layer}"][0, head, len(prompt) :] for layer, head in self._settings.heads or ()]
        frames = sounding // FRAMES
        found = token_times(weights, frames, self._settings.filter_width)
        closed = len(made) > 3 and made[-2] >= self._settings.first_timestamp
        if closed and not np.ptp(found):
            found = token_times([head[:-1] for head in weights], frames, self._settings.filter_width)
        return np.append(found, [found[-1]] * (len(made) - len(found))).astype(np.float32)

    def _take(self, found: _Decoded, seek: int, frames: int) -> int:
        """Keep the segments of a window; returns by how many frames to advance."""
        segments, advance = split(found.tokens, self._settings, seek, frames)
        offset = np.float32(seek * TIME_SECONDS / FRAMES)
        for segment in segments:
            tokens = found.tokens[segment.places]
            self._spoken.tokens += tokens
            self._spoken.times += (found.times[segment.places] + offset).tolist()
            if self._call.details:
                self._spoken.segments.append(
                    SpokenSegment(
                        seek,
                        segment.begin,
                        segment.end,
                        tokens,
                        found.tokens,
                        found.temperature,
                        found.logprob,
                        found.no_speech,
                    )
                )
            pair = len(tokens) > 2 and tokens[-2] >= self._settings.first_timestamp
            self._earlier += tokens[:-1] if pair else tokens
        return advance


def compression_ratio(tokens: Sequence[int], vocabulary: int) -> float:
    """Bytes of the tokens by those of their compressed form; text that repeats itself has a high ratio."""
    width = int(math.log2(vocabulary) / 8) + 1
    packed = b"".join(token.to_bytes(width, "little") for token in tokens)
    return len(packed) / len(zlib.compress(packed))


def _at(options: GenerationOptions, temperature: float) -> GenerationOptions:
    """The options at a temperature; above 0, one sequence is drawn."""
    if temperature > 0:
        return options.with_options(do_sample=True, temperature=temperature, num_beams=1)
    return options
