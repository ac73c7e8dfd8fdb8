"""Encoder-decoders in automatic-speech-recognition: what all of them share, and those that write plain text.

Moonshine, Speech2Text and models of two parts (``speech-encoder-decoder``) write a text and no times.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gpux.errors import UnsupportedError, UsageError
from gpux.model.json_file import read_optional_json
from gpux.model.variant import StoredModel
from gpux.pipelines.audio.base import AudioPipeline
from gpux.pipelines.audio.speech import strides
from gpux.pipelines.audio.voice_activity import RATE as VAD_RATE
from gpux.pipelines.audio.voice_activity import OriginalTimes, VadOptions, VoiceActivity, kept
from gpux.pipelines.text.tokenization import Tokenizer
from gpux.processors.audio.load import SoundInput, open_sound_blocks
from gpux.processors.audio.prepared import Samples
from gpux.runtime.generation.engine.encoder_decoder import EncoderDecoder
from gpux.runtime.generation.loops import beams, stepwise
from gpux.runtime.generation.loops.request import DecodeRequest
from gpux.runtime.generation.options import GenerationOptions, option_names
from gpux.runtime.generation.published import read_published
from gpux.runtime.graphs import Graphs
from gpux.system.cancel import CancelToken
from gpux.system.plugins import service

log = logging.getLogger(__name__)

#: ``_default_generation_config`` of transformers' automatic-speech-recognition.
BEAMS = 5
_TASK = "automatic-speech-recognition"
#: Options of a call that Whisper models alone have.
_WHISPER = frozenset({"language", "task", "translate", "prompt", "prompt_ids", "return_language", "return_segments"})
ENCODER, DECODER, WITH_PAST = "encoder", "decoder", "decoder_with_past"


def is_encoder_decoder(graphs: Graphs) -> bool:
    """Whether a variant has an encoder and a decoder."""
    return ENCODER in graphs.names and DECODER in graphs.names


def open_encoder_decoder(graphs: Graphs) -> EncoderDecoder:
    """The encoder and the decoder of a variant.

    Raises:
        UnsupportedError: the decoder has an unknown input, or no cache.
    """
    with_past = graphs.session(WITH_PAST) if WITH_PAST in graphs.names else None
    return EncoderDecoder(graphs.session(ENCODER), graphs.session(DECODER), with_past)


def published_options(
    model: StoredModel, config: Mapping[str, Any], *, known: Collection[str] = ()
) -> GenerationOptions:
    """The generation options that a model's files set; warns of those that gpux does not follow.

    Args:
        model: the stored variant.
        config: its ``config.json``.
        known: names that the caller follows.
    """
    generation = read_optional_json(model.path / "generation_config.json")
    found = read_published(config, generation, task=_TASK, encoder_decoder=True, beams=BEAMS)
    if left := sorted(set(found.unsupported) - set(known)):
        log.warning("%s sets generation options that gpux does not support: %s", model.id, ", ".join(left))
    if wrong := found.invalid:
        log.warning("%s sets generation options to invalid values, ignored: %s", model.id, ", ".join(wrong))
    options = found.options
    if options.decoder_start_token_id is None and found.bos_token_id is not None:
        options = options.with_options(decoder_start_token_id=found.bos_token_id)
    return options


def with_generate_kwargs(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, those in ``generate_kwargs`` beside the others; None stands for no value.

    Raises:
        UsageError: ``generate_kwargs`` is no mapping.
    """
    inner = options.get("generate_kwargs")
    if inner is not None and not isinstance(inner, Mapping):
        raise UsageError("generate_kwargs must be a dict", hint="Give the options themselves.")
    found = {**options, **(inner or {})}
    return {name: value for name, value in found.items() if value is not None and name != "generate_kwargs"}


def generation_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that concern the choice of tokens, except the temperature.

    Raises:
        UsageError: several sequences are requested.
    """
    found = {name: value for name, value in given.items() if name in option_names() and name != "temperature"}
    if found.get("num_return_sequences", 1) != 1:
        raise UsageError("a sound has one text, and num_return_sequences is greater than 1", hint="Remove it.")
    return found


@dataclass(frozen=True)
class SoundChunk:
    """A part of a sound."""

    samples: Samples
    stride: tuple[float, float, float]  #: seconds: its length, and what it shares at its left and right


class OpenedSound:
    """A sound, read in blocks as often as it is needed.

    Args:
        blocks: opens it.
        rate: samples per second.
        times: where parts of the sound were left out: their times in the sound itself.
        silent: it has no speech.
    """

    def __init__(
        self,
        blocks: Callable[[], Iterator[Samples]],
        rate: int,
        times: OriginalTimes | None = None,
        *,
        silent: bool = False,
    ) -> None:
        self.blocks, self._rate = blocks, rate
        self._times, self.silent = times, silent

    def beginning(self, count: int) -> Samples:
        """The first samples, ``count`` at most."""
        parts: list[Samples] = []
        found = 0
        for block in self.blocks():
            parts.append(block)
            found += len(block)
            if found >= count:
                break
        joined = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        return joined[:count]

    def chunks(self, stride: tuple[float, float, float]) -> Iterator[SoundChunk]:
        """Overlapping chunks, as ``chunk_iter`` of transformers cuts them.

        Args:
            stride: seconds of a chunk, and of what it shares with the one before it and the one after it.
        """
        length, left, right = (round(seconds * self._rate) for seconds in stride)
        step, start, ended = length - left - right, 0, False
        coming, held = self.blocks(), np.zeros(0, np.float32)
        while True:
            while not ended and len(held) < length + 1:  # one more shows whether this chunk is the last
                block = next(coming, None)
                ended = block is None
                held = held if block is None else np.concatenate([held, block])
            last = len(held) <= length
            samples, before, after = held[:length], left if start else 0, 0 if last else right
            if len(samples) > before:
                seconds = (len(samples) / self._rate, before / self._rate, after / self._rate)
                yield SoundChunk(samples, seconds)
            if last:
                return
            held, start = held[step:], start + step

    def original_times(self, chunks: list[dict[str, Any]], *, words: bool) -> list[dict[str, Any]]:
        """Chunks with their times in the sound itself."""
        times = self._times
        if times is None:
            return chunks
        mapped = times.word if words else times.segment
        return [
            {**chunk, "timestamp": mapped(*chunk["timestamp"])} if "timestamp" in chunk else chunk for chunk in chunks
        ]


def open_sound(sound: SoundInput, rate: int, index: int, options: Mapping[str, Any]) -> OpenedSound:
    """A sound of a call; with ``vad``, its speech alone.

    Args:
        sound: as the caller gave it.
        rate: samples per second that the model reads.
        index: its place among the sounds of the call.
        options: of the call.

    Raises:
        InputError: it cannot be read.
        UnsupportedError: the voice activity model reads another rate.
    """
    file: Any = sound if hasattr(sound, "seek") else None
    start = None if file is None else file.tell()

    def blocks() -> Iterator[Samples]:
        if file is not None:
            file.seek(start)  # it may be read twice
        return open_sound_blocks(sound, rate, index=index)

    detector: VoiceActivity | None = options.get("voice_activity")
    if detector is None:
        return OpenedSound(blocks, rate)
    if rate != VAD_RATE:
        raise UnsupportedError(
            f"the model reads {rate} samples per second, and voice activity needs {VAD_RATE}", hint="Remove vad."
        )
    spans = detector.spans(blocks(), VadOptions.of(options.get("vad_parameters")))
    times = OriginalTimes(spans, rate)
    return OpenedSound(lambda: kept(blocks(), spans), rate, times, silent=not spans)


@cache
def _voice_activity(path: Path) -> VoiceActivity:
    return VoiceActivity(path)


def voice_activity(given: Mapping[str, Any]) -> VoiceActivity | None:
    """The voice activity model of a call; None if it has none.

    Raises:
        UsageError: ``vad`` is neither a path nor a reference, or an option is invalid.
        SessionError: the file cannot be loaded.
        UnsupportedError: it is another model.
        GpuxError: what a pull raises.
    """
    found = given.get("vad")
    VadOptions.of(given.get("vad_parameters"))
    if found is None or found is False:
        return None
    if not isinstance(found, (str, Path)):
        raise UsageError(
            f"vad is {found!r}, and must be a silero voice activity model",
            hint="Give the path of silero_vad_v6.onnx, which the package faster-whisper has in its assets.",
        )
    path = Path(found).expanduser()
    if not path.is_file():
        if path.suffix == ".onnx" or isinstance(found, Path):
            raise UsageError(f"vad names {path}, which is not a file", hint="Give the path of silero_vad_v6.onnx.")
        model: StoredModel = service("open_model")(str(found))
        path = model.path / model.manifest.graphs[0].file
    return _voice_activity(path.resolve())


class TextDecoder:
    """An encoder-decoder that writes plain text; see :class:`gpux.pipelines.audio.speech.SpeechDecoder`.

    Args:
        pipeline: with the graphs and the feature extractor.

    Raises:
        UnsupportedError: a part of the model is missing.
    """

    def __init__(self, pipeline: AudioPipeline) -> None:
        self._pipeline = pipeline
        self._model = open_encoder_decoder(pipeline.graphs)
        self._tokenizer = Tokenizer(pipeline.model)
        self._specials = frozenset(self._tokenizer.named_special_ids)
        self._options = published_options(pipeline.model, pipeline.config)
        if self._options.decoder_start_token_id is None:
            raise UnsupportedError(
                f"the configuration of {pipeline.model.id} has no decoder_start_token_id",
                hint="Compare generation_config.json with that of the original model.",
            )

    def resolve(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check the options of a call; adds ``generation``, ``strides`` and ``deadline``."""
        given = with_generate_kwargs(options)
        if given.get("return_timestamps"):
            raise UsageError(
                f"{self._pipeline.model.id} gives no timestamps", hint="Whisper models and those with CTC do."
            )
        if left := sorted(set(given) & _WHISPER):
            raise UsageError(f"{self._pipeline.model.id} does not take {', '.join(left)}", hint="Whisper models do.")
        chosen = generation_options(given)
        if "temperature" in given:
            chosen["temperature"] = given["temperature"]
        generation, timeout = self._options.with_options(**chosen), given.get("timeout")
        deadline = None if timeout is None else time.monotonic() + timeout
        cancel = (given.get("cancel") or CancelToken()).child()
        return {
            **given,
            "generation": generation,
            "strides": strides(given),
            "voice_activity": voice_activity(given),
            "deadline": deadline,
            "cancel": cancel,
        }

    def transcribe(self, sounds: Sequence[SoundInput], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The answer to each sound."""
        found = []
        for index, sound in enumerate(sounds):
            opened = open_sound(sound, self._pipeline.sampling_rate, index, options)
            tokens: list[int] = []
            if opened.silent:
                pass
            elif options["strides"] is not None and options["strides"][0]:
                chunks = opened.chunks(options["strides"])  # their texts are not compared, as in transformers
                tokens = [token for chunk in chunks for token in self._tokens(chunk.samples, index, options)]
            else:
                tokens = self._tokens(np.concatenate(list(opened.blocks())), index, options)
            found.append({"text": self._tokenizer.decode(tokens, skip_special_tokens=True)})
        return found

    def _tokens(self, samples: Samples, index: int, options: Mapping[str, Any]) -> list[int]:
        """The text tokens of one sound, or of a chunk."""
        prepared = self._pipeline.prepare(samples, index).inputs
        inputs = {spec.name: prepared[spec.name][None] for spec in self._model.encoder.inputs}
        generation: GenerationOptions = options["generation"]
        request = DecodeRequest(
            [[generation.decoder_start_token_id or 0]],
            generation,
            encoder_input_ids=[()],
            cancel=options["cancel"],
            deadline=options["deadline"],
        )
        with closing(self._model.open(inputs, generation.max_new_tokens)) as state:
            if generation.num_beams > 1:
                made = list(beams.search(state, request)[0].tokens)
            else:
                made = [step.token for step in stepwise.generate(state, request) if step.token is not None]
        return [token for token in made if token not in self._specials]
